#!/usr/bin/perl
# The picture of the README, in two files for GitHub's light and dark theme, from
# the numbers of RESULTS.md beside it.
#
# Invariant: the same RESULTS.md gives the same bytes, so test/docs.sh can tell a
# picture that is out of date.
#
# usage: bench/picture.pl [folder]: into that folder; by default, beside this script
use strict;
use warnings;

use FindBin;

my $folder = shift // $FindBin::RealBin;

# What is told of whom: its rows in the tables of stall.sh and standby.sh.
my @contenders = (
	[ 'sagaz_ha' => 'sagaz_ha worker', 'sagaz_ha worker' ],
	[ 'pg_partman' => 'pg_partman run_maintenance()', 'pg_partman run_maintenance()' ],
	[ 'TimescaleDB' => 'TimescaleDB drop_chunks()', 'TimescaleDB drop_chunks()' ],
	[ 'plain DDL' => 'plain DDL, a transaction per statement', 'plain SQL, DROP TABLE' ]);

my %themes = (
	'picture-light.svg' => { text => '#1f2328', quiet => '#59636e', ours => '#1a7f37', theirs => '#bc4c00' },
	'picture-dark.svg' => { text => '#f0f6fc', quiet => '#9198a1', ours => '#3fb950', theirs => '#f0883e' });

# The tables of RESULTS.md, by the script that made them.
my (%tables, @lines);
open my $results, '<', "$FindBin::RealBin/RESULTS.md" or die "RESULTS.md: $!";
while (<$results>)
{
	@lines = () if /^## /;
	push @lines, $_;
	$tables{$1} = [@lines] if m{^command\s.*\bbench/(\w+)\.sh};
}
close $results;

# What a script's table has in a row's column; of several such rows, in the first.
sub cell
{
	my ($script, $row, $column) = @_;
	my $index;

	foreach my $line (@{ $tables{$script} // die "no table of $script.sh" })
	{
		my @cells = split /\s{2,}/, $line =~ s/\s+$//r;
		($index) = grep { $cells[$_] eq $column } 0 .. $#cells unless defined $index;
		return $cells[$index] if defined $index && @cells && $cells[0] eq $row;
	}
	die "no row \"$row\" with a column \"$column\" of $script.sh";
}

sub spoken
{
	my $ms = shift;

	return $ms < 1000 ? sprintf('%.0f ms', $ms) : sprintf('%.1f s', $ms / 1000);
}

# One panel: a bar for each contender, as long as its milliseconds.
sub panel
{
	my ($theme, $left, $title, $subtitle, @bars) = @_;
	my ($longest) = sort { $b <=> $a } map { $_->[1] } @bars;
	my $svg = qq{<text x="$left" y="22" font-size="16" font-weight="600" fill="$theme->{text}">$title</text>\n}
	  . qq{<text x="$left" y="42" font-size="12" fill="$theme->{quiet}">$subtitle</text>\n};
	my $y = 58;

	foreach my $bar (@bars)
	{
		my ($name, $ms) = @$bar;
		my $colour = $name eq 'sagaz_ha' ? $theme->{ours} : $theme->{theirs};
		my $weight = $name eq 'sagaz_ha' ? '600' : '400';
		my $width = sprintf('%.1f', 2 + 188 * $ms / $longest);
		my ($bar_left, $text_y) = ($left + 96, $y + 15);
		my $value_left = sprintf('%.1f', $bar_left + $width + 6);

		$svg .= qq{<text x="$left" y="$text_y" font-size="13" font-weight="$weight" fill="$theme->{text}">$name</text>\n}
		  . qq{<rect x="$bar_left" y="$y" width="$width" height="20" rx="2" fill="$colour"/>\n}
		  . qq{<text x="$value_left" y="$text_y" font-size="13" font-weight="$weight" fill="$theme->{text}">}
		  . spoken($ms) . qq{</text>\n};
		$y += 28;
	}
	return $svg;
}

my @writers = map { [ $_->[0], cell('stall', $_->[1], 'max') ] } @contenders;
my @readers = map { [ $_->[0], cell('standby', $_->[2], 'max') ] } @contenders;

foreach my $file (sort keys %themes)
{
	my $theme = $themes{$file};

	open my $svg, '>', "$folder/$file" or die "$folder/$file: $!";
	print $svg qq{<svg xmlns="http://www.w3.org/2000/svg" width="760" height="176" viewBox="0 0 760 176"\n}
	  . qq{ font-family="-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif" role="img">\n}
	  . qq{<title>While 10 old partitions go: longest wait of a writer, and staleness of a replica</title>\n}
	  . panel($theme, 4, 'A writer waits', 'longest INSERT, beside an 8 s reader', @writers)
	  . panel($theme, 392, 'A replica stands still', 'staleness, beside a 15 s reader there', @readers)
	  . qq{</svg>\n};
	close $svg;
}
