#!/usr/bin/perl
# Every message that the extension can raise, one a line: its SQLSTATE (or its
# level, if that is no error), a tab, and the text with … for each value in it.
# test/docs.sh compares them with doc/troubleshooting.md.
#
# Messages of elog() are left out: they tell of faults, not of situations.
#
# usage: test/messages.pl ERRCODES_H, in the top folder of the project
use strict;
use warnings;

my %state;
my %found;

sub text_of
{
	my $file = shift;

	open my $source, '<', $file or die "$file: $!";
	local $/ = undef;
	my $text = <$source>;
	close $source;
	return $text;
}

# Notes the SQLSTATEs that a text defines.
sub know_states
{
	my $source = shift;

	while ($source =~ /#define (ERRCODE_\w+)\s+MAKE_SQLSTATE\(([^)]*)\)/g)
	{
		my ($name, $characters) = ($1, $2);

		$state{$name} = join '', $characters =~ /'(.)'/g;
	}
	return;
}

# How a text is told, with … for each value.
sub spoken
{
	my $text = shift;

	$text =~ s/\\"/"/g;
	$text =~ s/\\n/ /g;
	$text =~ s/%u:%X\/%X|%\w/…/g;
	return $text;
}

sub keep
{
	my ($code, $text) = @_;

	# a text that comes from somewhere else as a whole is found there
	$found{"$code\t" . spoken($text) . "\n"} = 1 if $text !~ /^%\w?$/;
	return;
}

my $string = qr/"(?:[^"\\]|\\.)*"/;
my $balanced;
$balanced = qr/\((?:[^()"']|'(?:[^'\\]|\\.)'|$string|(??{ $balanced }))*\)/;

# The literals at the beginning of a text, as the compiler joins them.
sub joined
{
	my $code = shift;
	my $text = '';

	$text .= $1 while $code =~ /\G\s*"((?:[^"\\]|\\.)*)"/gc;
	return $text;
}

know_states(text_of($ARGV[0]));
foreach my $file (glob 'src/*.c src/*/*.c')
{
	my $source = text_of($file);

	know_states($source);
	while ($source =~ /\bereport($balanced)/g)
	{
		my $call = $1;
		my ($level) = $call =~ /^\((\w+)/;
		my ($code) = $call =~ /\berrcode\((ERRCODE_\w+)\)/;

		next if $call !~ /\berrmsg(?:_internal|_plural)?\(/g;
		keep($level =~ /^(?:ERROR|FATAL)$/ ? ($code ? $state{$code} : 'by errno') : $level,
			joined(substr $call, pos $call));
	}
	# what is told by way of a function
	keep($state{$1}, joined("$2"))
	  while $source =~ /\bproblem_is\(problem, (ERRCODE_\w+),\s*(?:psprintf\()?((?:$string\s*)+)/g;
	keep('22008', joined($1)) while $source =~ /\bargument_finite_time\(fcinfo, \d+,\s*((?:$string\s*)+)/g;
	keep('57014', joined($1)) while $source =~ /\bpsprintf\(("%s took longer than(?:[^"\\]|\\.)*")/g;
}

foreach my $file (glob 'src/sql/*.sql')
{
	my $source = text_of($file);

	while ($source =~ /\bRAISE EXCEPTION '((?:[^']|'')*)'([^;]*);/g)
	{
		my ($text, $rest) = ($1, $2);
		my ($name) = $rest =~ /ERRCODE = '(\w+)'/;

		$text =~ s/''/'/g;
		$text =~ s/%/%s/g;
		keep($name ? $state{ 'ERRCODE_' . uc $name } // $name : 'P0001', $text);
	}
}

print sort keys %found;
