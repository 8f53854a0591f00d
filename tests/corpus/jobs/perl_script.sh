#!/usr/bin/perl
# A job whose script is no shell's.
#SBATCH --ntasks=2
#SBATCH --job-name=perl
use strict;
use warnings;

open my $result, '>', 'result' or die "result: $!";
my @said = sort `srun sh -c 'echo task \$SLURM_PROCID'`;
print $result @said, "ended with ", $? >> 8, "\n";
system('srun', '-n1', 'sh', '-c', 'exit 5');
print $result "then with ", $? >> 8, "\n";
open my $step, '|-', 'srun', '-n1', 'tr', 'a-z', 'A-Z' or die;
print $step "to a step\n";
close $step;
open $step, '-|', 'srun', '-n1', 'echo', 'two  words', '$HOME' or die;
print {$result} <$step>;
