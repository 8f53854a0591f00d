#!/bin/bash
# Distributed training where srun starts each rank, and the ranks meet at an address of the first node.
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=2
#SBATCH --gpus-per-node=2

export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((10000 + SLURM_JOB_ID % 10000))
export WORLD_SIZE=$((SLURM_NNODES * 2))

cat >train.pl <<'EOF'
use IO::Socket::INET;
my ($rank, $size) = ($ENV{SLURM_PROCID}, $ENV{WORLD_SIZE});
my $sum = $rank;
if ($rank == 0) {
    my $server = IO::Socket::INET->new(Listen => $size, LocalPort => $ENV{MASTER_PORT}) or die "listen: $!";
    my @others = map { $server->accept } 2 .. $size;
    for (@others) { my $said = <$_>; $sum += $said }
    for (@others) { print $_ "$sum\n" }
} else {
    my $server;
    until ($server = IO::Socket::INET->new(PeerHost => $ENV{MASTER_ADDR}, PeerPort => $ENV{MASTER_PORT})) {
        select undef, undef, undef, 0.1;
        die "nobody at $ENV{MASTER_ADDR}" if $tries++ > 200;
    }
    print $server "$rank\n";
    chomp($sum = <$server>);
}
print "rank $rank, local $ENV{SLURM_LOCALID}, ${\ scalar split(/,/, $ENV{CUDA_VISIBLE_DEVICES})} GPUs: all-reduce $sum\n";
EOF
srun --kill-on-bad-exit=1 --output=train.%t.log perl train.pl
cat train.?.log >result
