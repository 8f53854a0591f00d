#!/bin/bash
# A program that asks a licence server for its features, as MATLAB, Abaqus and others do, at a port of this machine.
#SBATCH -n 3
#SBATCH -J licences

port=$((15000 + SLURM_JOB_ID % 5000))
cat >lmgrd.pl <<'EOF'
use IO::Socket::INET;
my $server = IO::Socket::INET->new(Listen => 8, LocalPort => $ARGV[0], ReuseAddr => 1) or die "listen: $!";
open my $up, '>', 'lmgrd.up' or die $!;
my $free = 2;
while () {
    my $client = $server->accept or next;
    my ($word, $feature) = split ' ', <$client>;
    print $client $feature eq 'solver' && $free-- > 0 ? "granted\n" : "Licensed number of users already reached\n";
}
EOF
perl lmgrd.pl "$port" &
trap 'kill $!' EXIT
until [ -e lmgrd.up ]; do sleep 0.1; done

export LM_LICENSE_FILE=$port@localhost MLM_LICENSE_FILE=$port@localhost
cat >solver <<'EOF'
#!/bin/bash
exec 3<>"/dev/tcp/${LM_LICENSE_FILE#*@}/${LM_LICENSE_FILE%@*}" || exit 1
echo "checkout ${1:-solver}" >&3
cat <&3
EOF
chmod +x solver
srun ./solver | sort >result
./solver toolbox >>result
