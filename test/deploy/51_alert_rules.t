#!/usr/bin/perl
# The alert rules of deploy/config/prometheus: valid for Prometheus, tested by
# promtool, and the tests find what is changed in a rule: each alert is made to
# never fire, to fire without waiting, and to compare with the border on its
# other side.
use strict;
use warnings FATAL => 'all';
use File::Basename qw(basename dirname);
use File::Copy qw(copy);
use File::Path qw(make_path);
use File::Spec;
use File::Temp qw(tempdir);
use Test::More;

my $root = File::Spec->rel2abs(dirname(__FILE__) . '/../..');
my $config = "$root/deploy/config/prometheus";
my $work = tempdir(CLEANUP => 1);

sub slurp { my ($file) = @_; local (@ARGV, $/) = ($file); return <> }

sub spew
{
	my ($file, $text) = @_;

	open(my $out, '>', $file) or die "$file: $!";
	print $out $text;
	close($out) or die "$file: $!";
	return;
}

# What promtool says, and whether it is content.
sub promtool
{
	my $said = qx(promtool @_ 2>&1);

	return ($? == 0, $said);
}

# -------- as they are

my @names = map { basename($_, '.yml') } sort glob("$config/rules/*.yml");
cmp_ok(@names, '>', 0, 'there are rules');
foreach my $name (@names)
{
	my ($good, $said) = promtool('check', 'rules', "$config/rules/$name.yml");
	ok($good, "rules/$name.yml is valid") or diag($said);
	($good, $said) = promtool('test', 'rules', "$config/tests/$name.yml");
	ok($good, "tests/$name.yml succeeds") or diag($said);
}
foreach my $targets (sort glob("$config/targets/*"))
{
	my $dir = "$work/" . basename($targets);

	make_path("$dir/targets");
	copy("$config/prometheus.yml", $dir);
	symlink("$config/rules", "$dir/rules") or die $!;
	copy($_, "$dir/targets") foreach glob("$targets/*.yml");
	my ($good, $said) = promtool('check', 'config', "$dir/prometheus.yml");
	ok($good, 'prometheus.yml is valid with targets/' . basename($targets)) or diag($said);
	unlike($said, qr/targets\/(?!alertmanager).* does not exist/, '... and has all of them');
}

# -------- what people read

my %anchor = map { lc($_) => 1 } slurp("$root/doc/monitoring.md") =~ /^#+ (\S+)$/mg;
my %alerts;
foreach my $name (@names)
{
	foreach my $rule (split /^(?=      - (?:alert|record): )/m, slurp("$config/rules/$name.yml"))
	{
		$alerts{$1} = { file => $name, text => $rule } if $rule =~ /^      - alert: (\w+)$/m;
	}
}
foreach my $alert (sort keys %alerts)
{
	my $text = $alerts{$alert}{text};
	my ($runbook) = $text =~ m{^          runbook: doc/monitoring\.md#(\w+)$}m;

	like($text, qr/^          severity: (?:warning|critical)$/m, "$alert has a severity");
	like($text, qr/^          summary: .*^          description: /ms, "$alert has a summary and a description");
	ok($runbook && $anchor{$runbook}, "$alert has a runbook that exists");
}

# -------- changed

# Whether its tests, which begin with its name, notice that a rule has another
# text.
sub notices
{
	my ($alert, $text, $what) = @_;
	my ($file, $original) = @{ $alerts{$alert} }{qw(file text)};
	my $rules = slurp("$config/rules/$file.yml");

	return fail("$alert $what: nothing to change") if $text eq $original;
	substr($rules, index($rules, $original), length($original)) = $text;
	make_path("$work/mutant/rules", "$work/mutant/tests");
	spew("$work/mutant/rules/$file.yml", $rules);
	spew("$work/mutant/tests/$file.yml", join '',
		grep { !/^  - name: / || /^  - name: '$alert: / } split /^(?=  - name: )/m, slurp("$config/tests/$file.yml"));
	my ($valid, $said) = promtool('check', 'rules', "$work/mutant/rules/$file.yml");
	return fail("$alert $what: not a rule: $said") if !$valid;
	my ($good) = promtool('test', 'rules', "$work/mutant/tests/$file.yml");
	return ok(!$good, "$alert $what: the tests notice");
}

my %other = ('>' => '>=', '>=' => '>', '<' => '<=', '<=' => '<');
foreach my $alert (sort keys %alerts)
{
	my $text = $alerts{$alert}{text};
	my ($expr) = $text =~ /^(        expr: .*?)^        (?:for|labels):/ms;
	# folded text has its first line after >-
	my $start = $expr =~ /\A        expr: >-\n/ ? $+[0] : length('        expr: ');
	my $body = substr($expr, $start);

	notices($alert, $text =~ s/\Q$expr\E/'        expr: (' . $body =~ s{\s+}{ }gr . ") unless on () vector(1)\n"/er,
		'that never fires');
	notices($alert, $text =~ s/^        for: .*\n//mr, 'that does not wait') if $text =~ /^        for: /m;
	while ($body =~ /(?<=[ )\]])([<>]=?)(?= )/g)
	{
		my ($at, $sign) = ($-[1] + $start, $1);
		my $changed = $expr;

		substr($changed, $at, length $sign) = $other{$sign};
		notices($alert, $text =~ s/\Q$expr\E/$changed/r, "with $other{$sign} for $sign at $at");
	}
}

done_testing();
