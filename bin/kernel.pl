# System calls by name, and what both launch.pl and broker.pl do with them. The one does not wait for the other to be compiled.
use strict;

sub CLONE_NEWNS() { 0x20000 }
sub CLONE_NEWUSER() { 0x10000000 }
sub MS_REC() { 0x4000 }
sub MS_SLAVE() { 0x80000 }
sub PR_CAPBSET_DROP() { 24 }
sub AF_UNIX() { 1 }
sub SOCK_SEQPACKET() { 5 }
sub SIGKILL() { 9 }
sub F_DUPFD() { 0 }

# Numbers of x86-64, and of arm64 and riscv64.
my %number = (
  mount => [165, 40], umount2 => [166, 39], pivot_root => [155, 41], unshare => [272, 97], prctl => [157, 167],
  setns => [308, 268], capset => [126, 91], close => [3, 57], dup3 => [292, 24], mount_setattr => [442, 442],
  sendmsg => [46, 211], write => [1, 64], pidfd_open => [434, 434], landlock_create_ruleset => [444, 444], landlock_restrict_self => [446, 446],
  inotify_init1 => [294, 26], inotify_add_watch => [254, 27], setsid => [112, 157], clone => [56, 220], sethostname => [170, 161],
);
my %column = (62 => 0, 183 => 1, 243 => 1);
my $column;

# A system call by name: its result, and whether it succeeded.
sub result_of {
  my ($name, @arguments) = @_;
  return syscall($number{$name}[$column], @arguments);
}

sub kernel { return result_of(@_) >= 0 }

# From e_machine of the program that we are; not defined: not one of the processors above.
sub find_processor {
  open(my $exe, '<', '/proc/self/exe') or return;
  read($exe, my $header, 20) == 20 or return;
  $column = $column{unpack('x18 v', $header)};
  return defined $column;
}

sub put {
  my ($path, $text) = @_;
  open(my $file, '>', $path) or return 0;
  my $written = defined(syswrite($file, $text));
  return close($file) && $written;
}

# Beyond the standard ones.
sub descriptors {
  opendir(my $directory, '/proc/self/fd') or return;
  return grep { /^\d+$/ && $_ > 2 && $_ != fileno($directory) } readdir($directory);
}

# A user namespace in which we are root and nobody else is anybody.
sub enter_user_namespace {
  my ($uid, $gid) = ($> + 0, $) + 0);
  return kernel('unshare', CLONE_NEWUSER) && become_root($uid, $gid);
}

# In a new user namespace, whoever we are outside.
sub become_root {
  my ($uid, $gid) = @_;
  return put('/proc/self/setgroups', 'deny') && put('/proc/self/uid_map', "0 $uid 1")
    && put('/proc/self/gid_map', "0 $gid 1");
}

# What stays: permitted, effective after exec(2) as root, in the bounding set. They are among the first 32.
sub keep_capability {
  my (@kept) = @_;
  my $mask = 0;
  $mask |= 1 << $_ for @kept;
  for my $capability (0 .. 63) {
    next if $mask >> $capability & 1;
    last if !kernel('prctl', PR_CAPBSET_DROP, $capability, 0, 0, 0);
  }
  # struct __user_cap_header_struct, version 3, and two of __user_cap_data_struct.
  return kernel('capset', pack('L2', 0x20080522, 0), pack('L6', $mask, $mask, $mask, 0, 0, 0));
}

1;
