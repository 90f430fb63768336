#!/usr/bin/perl
# What the structure of the source must be, in TAP: rooms, calls, includes,
# functions. What is wrong is listed, and the source is measured.
#
# usage: test/rooms.pl SOURCE OBJECTS
#   The folder of the source, and the one of its objects: src/a/b.c is read with
#   OBJECTS/a/b.o. A source that has no rooms is only measured.
#
# The objects tell which file calls which: what one of them lacks, another has.
# A function that is handed over as a pointer is used by whoever hands it over.
use strict;
use warnings;

use File::Basename qw(dirname);
use File::Find qw(find);

# A room uses those of a lower rank.
my %rank = (
	init => 7,
	process => 6,
	sql => 6,
	pass => 5,
	ddl => 4,
	replication => 4,
	catalog => 3,
	shmem => 2,
	base => 1,
	bounds => 0);

# These use no more than that, whatever the ranks are.
my %uses_only = (replication => 'base');

# The room that is pure C, and what it may include besides itself.
my $pure = 'bounds';
my %standard_header = map { ("$_.h" => 1) }
  qw(assert complex ctype errno fenv float inttypes iso646 limits locale math
  setjmp signal stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib
  stdnoreturn string tgmath threads time uchar wchar wctype);

my $long = 60;
my $too_long = 100;

die "usage: test/rooms.pl SOURCE OBJECTS\n" if @ARGV != 2;
my ($source, $objects) = @ARGV;

# -------- reading

sub read_file
{
	my ($name) = @_;

	open(my $file, '<', $name) or die "$name: $!\n";
	local $/;
	return scalar <$file>;
}

sub files_in
{
	my ($folder, $suffix) = @_;
	my @files;

	find({ no_chdir => 1, wanted => sub { push @files, $1 if m{^\Q$folder\E/(.*\.$suffix)$} } },
		$folder);
	return sort @files;
}

# The room of a file; a file beside the rooms is one by itself.
sub room
{
	my ($file) = @_;

	return $file =~ m{^(.*)/} ? $1 : $file =~ s/\.[ch]$//r;
}

my @c_files = files_in($source, 'c');
my @headers = files_in($source, 'h');
my %text = map { $_ => read_file("$source/$_") } @c_files, @headers;
my $has_rooms = grep { m{/} } @c_files;

# $includes{file}{header of ours} is true; $foreign{file} lists the others
my (%includes, %foreign);
for my $file (@c_files, @headers)
{
	while ($text{$file} =~ /^\s*#\s*include\s*(["<])([^">]+)[">]/mg)
	{
		my ($quote, $name) = ($1, $2);
		my $beside = dirname($file) eq '.' ? $name : dirname($file) . "/$name";
		my ($ours) = grep { $quote eq '"' && exists $text{$_} } $beside, $name;

		if (defined $ours)
		{
			$includes{$file}{$ours} = 1;
		}
		else
		{
			push @{ $foreign{$file} }, $quote eq '"' ? "\"$name\"" : "<$name>";
		}
	}
}

# $calls{file}{file} lists the functions and variables that the first one uses
my (%calls, %defined_by, %lacks, @without_object);
for my $file (@c_files)
{
	my $object = "$objects/" . $file =~ s/c$/o/r;

	if (!-f $object)
	{
		push @without_object, "$file: there is no $object";
		next;
	}
	open(my $nm, '-|', 'nm', '-P', $object) or die "nm: $!\n";
	while (<$nm>)
	{
		my ($symbol, $type) = split;

		if ($type =~ /^[Uwv]$/)
		{
			push @{ $lacks{$file} }, $symbol;
		}
		elsif ($type =~ /^[A-Z]$/)
		{
			$defined_by{$symbol} = $file;
		}
	}
	close($nm) or die "nm could not read $object\n";
}
for my $file (@c_files)
{
	for my $symbol (sort @{ $lacks{$file} || [] })
	{
		my $to = $defined_by{$symbol};

		push @{ $calls{$file}{$to} }, $symbol if defined $to;
	}
}

# A function's name, where it begins, how many lines it has, whether other files
# may call it, and whether a comment is directly above it. The source is indented
# as pgindent does it: a function's name and its braces begin a line.
sub functions_of
{
	my ($file) = @_;
	my @lines = split /\n/, $text{$file};
	my @functions;

	for my $open (grep { $lines[$_] eq '{' } 1 .. $#lines)
	{
		my ($first, $close) = ($open, $open);

		$first-- while $first > 0 && $lines[ $first - 1 ] =~ /^[\sA-Za-z_].*[^;\/\\]$/;
		my $head = join "\n", @lines[ $first .. $open - 1 ];
		next unless $head =~ /^(\w+)\s*\(/m || $head =~ /(\w+)\s*\(/;
		my $name = $1;
		$close++ while $close < $#lines && $lines[$close] ne '}';
		push @functions,
		  {
			file => $file,
			name => $name,
			line => $first + 1,
			length => $close - $first + 1,
			public => scalar($head !~ /\bstatic\b/),
			comment => scalar($first > 0 && $lines[ $first - 1 ] =~ m{\*/\s*$}) };
	}
	return @functions;
}

my @functions = map { functions_of($_) } @c_files, @headers;

# -------- circles and storeys

# The circles of a graph: each a list of files that reach each other. And which
# one a file is in: files outside of circles get a number of their own.
sub components
{
	my ($graph, @nodes) = @_;
	my ($count, $visit, %index, %low, %on_stack, %component, @stack, @circles) = (0);

	$visit = sub {
		my ($node) = @_;

		$index{$node} = $low{$node} = $count++;
		push @stack, $node;
		$on_stack{$node} = 1;
		for my $next (sort keys %{ $graph->{$node} || {} })
		{
			$visit->($next) if !exists $index{$next};
			$low{$node} = $low{$next} if $on_stack{$next} && $low{$next} < $low{$node};
		}
		return if $low{$node} != $index{$node};
		my @members;
		do
		{
			push @members, pop @stack;
			delete $on_stack{ $members[-1] };
			$component{ $members[-1] } = $node;
		} until $members[-1] eq $node;
		push @circles, [ sort @members ] if @members > 1;
	};
	for my $node (@nodes)
	{
		$visit->($node) if !exists $index{$node};
	}
	return (\%component, @circles);
}

# How many storeys a graph has, with every circle as one node: its longest chain.
sub longest_chain
{
	my ($graph, $component) = @_;
	my (%below, %height, $climb);

	for my $from (keys %$graph)
	{
		for my $to (keys %{ $graph->{$from} })
		{
			$below{ $component->{$from} }{ $component->{$to} } = 1
			  if $component->{$from} ne $component->{$to};
		}
	}
	$climb = sub {
		my ($node) = @_;

		if (!defined $height{$node})
		{
			my $highest = 0;

			for my $next (keys %{ $below{$node} || {} })
			{
				my $height = $climb->($next);

				$highest = $height if $height > $highest;
			}
			$height{$node} = $highest + 1;
		}
		return $height{$node};
	};
	my ($highest) = sort { $b <=> $a } 0, map { $climb->($_) } values %$component;
	return $highest;
}

# The edges among the members of circles, with what makes them.
sub describe_circles
{
	my ($graph, @circles) = @_;
	my @lines;

	for my $circle (@circles)
	{
		my %member = map { $_ => 1 } @$circle;

		push @lines, 'a circle of ' . @$circle . ': ' . join(' ', @$circle);
		for my $from (@$circle)
		{
			push @lines, map { '  ' . edge($graph, $from, $_) }
			  grep { $member{$_} } sort keys %{ $graph->{$from} };
		}
	}
	return @lines;
}

sub edge
{
	my ($graph, $from, $to) = @_;
	my $symbols = $graph->{$from}{$to};

	return "$from -> $to" . (ref $symbols ? ': ' . join(', ', @$symbols) : '');
}

# The edges of a graph that a rule forbids.
sub wrong_edges
{
	my ($graph, $allowed) = @_;
	my @wrong;

	for my $from (sort keys %$graph)
	{
		push @wrong, map { edge($graph, $from, $_) }
		  grep { room($from) ne room($_) && !$allowed->(room($from), room($_)) }
		  sort keys %{ $graph->{$from} };
	}
	return @wrong;
}

my $goes_down = sub { !defined $rank{ $_[0] } || ($rank{ $_[1] } // -1) < $rank{ $_[0] } };
my $keeps_apart = sub { ($uses_only{ $_[0] } // $_[1]) eq $_[1] };

my ($component, @call_circles) = components(\%calls, @c_files);
my %header_includes = map { $_ => $includes{$_} || {} } @headers;
my (undef, @header_circles) = components(\%header_includes, @headers);

# -------- the rules

my $number = 0;
my $failed = 0;

sub rule
{
	my ($name, @wrong) = @_;

	$number++;
	$failed++ if @wrong;
	print @wrong ? 'not ok' : 'ok', " $number - $name\n";
	print map { "# $_\n" } @wrong;
}

sub place
{
	my ($function) = @_;

	return sprintf '%s:%d: %s() has %d lines', @$function{qw(file line name length)};
}

my @by_length = sort { $b->{length} <=> $a->{length} || $a->{name} cmp $b->{name} } @functions;

if ($has_rooms)
{
	rule('rooms: every file is in one that has a rank, and has an object',
		(map { "$_ is in no room" } grep { !defined $rank{ room($_) } } @c_files, @headers),
		@without_object);
	rule('rooms: includes go down', wrong_edges(\%includes, $goes_down));
	rule('rooms: calls go down', wrong_edges(\%calls, $goes_down));
	rule('rooms: replication uses base alone',
		wrong_edges(\%includes, $keeps_apart), wrong_edges(\%calls, $keeps_apart));
	rule('circles: no files that call each other', describe_circles(\%calls, @call_circles));
	rule('circles: no headers that include each other',
		describe_circles(\%header_includes, @header_circles));

	my @impure;
	for my $file (grep { room($_) eq $pure } @c_files, @headers)
	{
		push @impure, map { "$file -> $_" }
		  grep { !(/^<(.*)>$/ && $standard_header{$1}) } @{ $foreign{$file} || [] };
	}
	rule("$pure: no header of the server", @impure);
	rule("functions: none has more than $too_long lines",
		map { place($_) } grep { $_->{length} > $too_long } @by_length);
	rule('functions: a comment is above every one that is not static',
		map { "$_->{file}:$_->{line}: $_->{name}()" }
		  grep { $_->{public} && !$_->{comment} } @functions);
	print "1..$number\n";
}

# -------- the numbers

sub lines
{
	my $sum = 0;

	$sum += tr/\n// for @_;
	return $sum;
}

my @sql = map { "$source/$_" } files_in($source, 'sql');
@sql = glob(dirname($source) . '/*.sql') if !@sql;
my @upward = $has_rooms ? wrong_edges(\%calls, $goes_down) : ();
my @short = grep { $_->{length} <= $long } @functions;
my %rooms = map { room($_) => 1 } @c_files, @headers;

print "# files: ", scalar @c_files, " of C, ", scalar @headers, " headers\n";
print "# rooms: ", $has_rooms ? scalar keys %rooms : 'none', "\n";
print "# storeys, file by file: ", longest_chain(\%calls, $component), "\n";
print "# upward calls: ",
  $has_rooms ? scalar(@upward) . ' from file to file' : 'there are no rooms', "\n";
print "# circles: ", @call_circles ? join(', ', map { scalar(@$_) . ' files' } @call_circles) : 'none',
  "; of headers: ", @header_circles ? join(', ', map { scalar(@$_) } @header_circles) : 'none', "\n";
print map { "#   $_\n" } $has_rooms ? () : map { join ' ', @$_ } @call_circles;
printf "# functions: %d, of which %.1f %% have at most %d lines\n", scalar @functions,
  100 * @short / (@functions || 1), $long;
print "# the longest: ", place($by_length[0]), "\n" if @by_length;
print map { '#   ' . place($_) . "\n" }
  grep { $_->{length} > $long && $_ != $by_length[0] } @by_length;
print "# lines: ", lines(values %text), " of C, ", lines(map { read_file($_) } @sql), " of SQL\n";

exit($failed != 0);
