"""Runs as Slurm jobs: batch scripts, their submission, and sweeps over settings.

Layer 4. `hpcfsl submit` turns a configuration into one job, `hpcfsl sweep` a grid of settings into a job array. What a
cluster wants (partition, launcher, modules, GPUs of a node) is in a site file. The scripts are made to be read: a
person can take one, change it, and hand it to `sbatch`.
"""
