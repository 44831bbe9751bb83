#!/usr/bin/env bash
# Makes spikeclip-lite0 again: about half an hour on two cores. Run it in the root of a checkout with .[dev] installed and
# the research sets in $SPIKECLIP_DATA (../shared/data). The text tower needs the packages that `spikeclip teacher words
# --help` names.
set -eu
data=${SPIKECLIP_DATA:-../shared/data}

spikeclip convert efficientnet-lite0 --D 8 --steps 120 --limit 480 --held-out 120 --out runs/lite0-tower \
    --pictures "$data/imagenet_sample" --pictures "$data/caltech101" --pictures "$data/flickr8k"
python - "$data/flickr8k/train.parquet" > runs/short.txt <<'EOF'
import sys
import pyarrow.parquet as parquet
rows = parquet.read_table(sys.argv[1], columns=["captions"])["captions"].to_pylist()
lines = [" ".join(text.split()) for group in rows for text in sorted(group, key=len)[:2]]
print("\n".join(dict.fromkeys(line for line in lines if len(line.split()) <= 8)))
EOF
spikeclip teacher words "$data/text/clip_vitb32_nouns.npz" "$data/clip_teacher/imagenet1k_prototypes.npz" --held 0 \
    --texts runs/short.txt --out runs/all-words.npz
spikeclip train recipes/words.yaml teacher.path=runs/all-words.npz --out runs/lite0-text
python weights/join.py spikeclip-lite0 --tower runs/lite0-tower --network efficientnet-lite0 --text runs/lite0-text/model \
    --table "$data/clip_teacher/imagenet1k_prototypes.npz" --table "$data/clip_teacher/caltech101.npz" \
    --data "$data/imagenet_sample" --data "$data/caltech101" --data "$data/flickr8k" --data "$data/tinyimagenet32" \
    --about weights/lite0.yaml
