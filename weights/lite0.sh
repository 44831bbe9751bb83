#!/usr/bin/env bash
# Makes spikeclip-lite0 again: about an hour on two cores. Run it in the root of a checkout with .[dev] installed and the
# research sets in $SPIKECLIP_DATA (../shared/data). The text tower needs the packages that `spikeclip teacher words --help`
# names, the engine in step 5 is fastest with the extra openvino. Another number of levels: D=16 weights/lite0.sh, which
# measures its model and leaves the package as it is.
set -eu
data=${SPIKECLIP_DATA:-../shared/data}
D=${D:-8}
runs=${RUNS:-runs}
nouns=$data/text/clip_vitb32_nouns.npz
prototypes=$data/clip_teacher/imagenet1k_prototypes.npz
model=$runs/D$D/spikeclip-lite0

# 1. The image tower, by conversion: no label is read, and no picture of a test split or of a CIFAR.
[ -f "$runs/lite0-D$D/model.safetensors" ] || spikeclip convert efficientnet-lite0 --D "$D" --steps 120 --limit 960 --held-out 160 \
    --pictures "$data/imagenet_sample" --pictures "$data/caltech101" --pictures "$data/flickr8k" \
    --pictures "$data/tinyimagenet32" --out "$runs/lite0-D$D"

# 2. The text tower, taught by words.
if [ ! -f "$runs/lite0-text/model/model.safetensors" ]; then
    python - "$data/flickr8k/train.parquet" > "$runs/short.txt" <<'PYTHON'
import sys
import pyarrow.parquet as parquet
rows = parquet.read_table(sys.argv[1], columns=["captions"])["captions"].to_pylist()
lines = [" ".join(text.split()) for group in rows for text in sorted(group, key=len)[:2]]
print("\n".join(dict.fromkeys(line for line in lines if len(line.split()) <= 8)))
PYTHON
    spikeclip teacher words "$nouns" "$prototypes" --held 0 --texts "$runs/short.txt" --out "$runs/all-words.npz"
    spikeclip train recipes/words.yaml data.source="$data/tinyimagenet32" teacher.path="$runs/all-words.npz" --out "$runs/lite0-text"
fi

# 3. Both as one model, with a readout of the image tower into the texts' space.
python weights/join.py "$model" --tower "$runs/lite0-D$D" --network efficientnet-lite0 --text "$runs/lite0-text/model" \
    --table "$prototypes" --table "$data/clip_teacher/caltech101.npz" --about weights/lite0.yaml \
    --data "$data/imagenet_sample" --data "$data/caltech101" --data "$data/flickr8k" --data "$data/tinyimagenet32"

# 4. What it scores on test pictures, beside the ordinary network.
python weights/measure.py "$model" --tower "$runs/lite0-D$D" --network efficientnet-lite0 --nouns "$nouns" --data "$data" \
    --out "results/lite0/zero_shot-D$D.json"

# 5. Into the package.
[ "$D" != 8 ] || python weights/ship.py "$model" --about weights/lite0.yaml --measured results/lite0/zero_shot-D8.json \
    --data "$data/imagenet_sample"
