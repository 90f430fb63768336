# shellcheck shell=bash
# Below the ports that the kernel gives to clients: what is started again must
# find its port free again, and a client that tries meanwhile could get it. Each
# is given away once by those who share $dir. Sourced by the tests.
free_port() {
  perl -MIO::Socket::INET -e 'for (1 .. 1000) {
    my $port = 17000 + int(rand(14000));
    IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 1) or next;
    mkdir "$ARGV[0]/port.$port" or next;
    print $port; exit } exit 1' "$dir"
}
