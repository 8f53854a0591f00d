#!/bin/bash
# A server that a user would reach by a tunnel: a port and a token of its own, a step that runs until it is told to end.
#SBATCH -J jupyter -n 1 -c 2 -t 30 -o jupyter.log

port=$((10000 + SLURM_JOB_ID % 10000))
token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
export JUPYTER_RUNTIME_DIR=$(mktemp -d "${TMPDIR:-/tmp}/jupyter.XXXXXX")
trap 'rm -rf "$JUPYTER_RUNTIME_DIR"' EXIT
echo "ssh -N -L $port:$(hostname):$port $USER@login"

cat >server.pl <<'EOF'
use IO::Socket::INET;
my ($port, $token) = @ARGV;
my $server = IO::Socket::INET->new(Listen => 8, LocalPort => $port, ReuseAddr => 1) or die "listen: $!";
$SIG{TERM} = sub { print "interrupted\n"; unlink "$ENV{JUPYTER_RUNTIME_DIR}/up"; exit 0 };
open my $up, '>', "$ENV{JUPYTER_RUNTIME_DIR}/up" or die $!;
$| = 1;
while () {
    my $browser = $server->accept or next;
    my $line = <$browser>;
    print $browser 'HTTP/1.1 ', $line =~ /token=$token / ? '200 OK' : '403 Forbidden', "\r\n";
    close $browser;
}
EOF
srun --output=server.out perl server.pl "$port" "$token" &
until [ -e "$JUPYTER_RUNTIME_DIR/up" ]; do sleep 0.1; done

ask() {
    exec 3<>"/dev/tcp/$(hostname)/$port"
    printf 'GET /api/status?token=%s HTTP/1.1\r\n\r\n' "$1" >&3
    head -n 1 <&3 | tr -d '\r'
    exec 3>&-
}
{ ask wrong; ask "$token"; } >result
scancel --signal=TERM "$SLURM_JOB_ID.0"
wait %1
{ echo "ended with $?"; grep -v -e slurmstepd -e '\*\*\* STEP' server.out; ls "$JUPYTER_RUNTIME_DIR"; } >>result
