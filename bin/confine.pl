# What our process gives up before it becomes Node. Only who gives up something waits for this to be compiled (launch.pl).
#
# Confined, this process is
#   - in a mount namespace of our own (without the right to that: inside a user namespace of our own that maps only us),
#     in which nothing is changed yet. It can be had only before there are threads, but pivot_root(2), called by anybody
#     inside, moves the root of all its threads: the broker closes the tree when everything is open;
#   - of all capabilities with CAP_NET_BIND_SERVICE only, with no_new_privs, in an IPC namespace of our own, and where
#     Landlock can do it (Linux 6.12), with no signals and abstract unix sockets but to those who come after us.
# Root of the system who is to become somebody else (HOW `changes`) keeps CAP_SETGID and CAP_SETUID too, until he does.
# Where the namespace is not to be had, Node is started as it is, and tells if it must.
use strict;

BEGIN { require(__FILE__ =~ s{[^/]*$}{kernel.pl}r) }

sub CLONE_NEWIPC() { 0x08000000 }
sub CAP_SETGID() { 6 }
sub CAP_SETUID() { 7 }
sub CAP_NET_BIND_SERVICE() { 10 }
sub CAP_SYS_ADMIN() { 21 }
sub PR_SET_NO_NEW_PRIVS() { 38 }
sub PR_SET_SECCOMP() { 22 }
sub SECCOMP_MODE_FILTER() { 2 }
sub IO_URING_SETUP() { 425 }
sub LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET() { 1 }
sub LANDLOCK_SCOPE_SIGNAL() { 2 }

sub enter_mount_namespace {
  my ($privileged) = @_;
  my $inside = $privileged ? kernel('unshare', CLONE_NEWNS) : enter_user_namespace() && kernel('unshare', CLONE_NEWNS);
  return $inside && kernel('mount', 'none', '/', 0, MS_REC | MS_SLAVE, 0);
}

# Whether BODY succeeds, tried in a process of its own: there is no way back from half of it.
sub succeeds {
  my ($body) = @_;
  my $child = fork;
  exit($body->() ? 0 : 1) if defined $child && $child == 0;
  return defined $child && waitpid($child, 0) == $child && $? == 0;
}

# Landlock reaches only who comes after us, and so has to come before the threads. Clients of a unix datagram socket may
# have abstract names, as peers of a link may: those are to be answered.
sub keep_to_ourselves {
  my $scopes = LANDLOCK_SCOPE_SIGNAL;
  $scopes |= LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET if !grep { /unix:|vfkit:/ } @_;
  # struct landlock_ruleset_attr: no right to files or ports is looked after.
  my $rules = result_of('landlock_create_ruleset', pack('Q3', 0, 0, $scopes), 24, 0);
  return if $rules < 0;
  kernel('landlock_restrict_self', $rules, 0);
  kernel('close', $rules);
  return;
}

# The event loops of Node 22 and later have a ring of io_uring each, if they can, and end the process when the kernel refuses
# one later. Our system call filter has to refuse it, because a ring would be a way around it: so there is to be none from
# the start. Sets no_new_privs, without which an ordinary user may have no filter.
sub without_rings {
  # struct sock_filter: the number of the call; ENOSYS (38) for io_uring_setup(2), and all others are allowed.
  my $filter = pack('(S C C L)4',
    0x20, 0, 0, 0, 0x15, 0, 1, IO_URING_SETUP, 0x06, 0, 0, 0x00050000 | 38, 0x06, 0, 0, 0x7fff0000);
  return kernel('prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # With a struct sock_fprog.
    && kernel('prctl', PR_SET_SECCOMP, SECCOMP_MODE_FILTER, pack('S x![P] P', 4, $filter), 0, 0);
}

# Whether we are in the system's own user namespace, where all ids are.
sub is_initial {
  open(my $map, '<', '/proc/self/uid_map') or return 0;
  return (<$map> // '') =~ /^\s*0\s+0\s+4294967295$/;
}

sub confine {
  my ($changes, $main, @arguments) = @_;
  my $privileged = $> == 0 && hex(substr(own('status', 'CapEff'), -8)) >> CAP_SYS_ADMIN & 1;
  # Without its power over permissions, root may be unable to read our own files.
  my @kept = (CAP_NET_BIND_SERVICE, $changes && $privileged && is_initial() ? (CAP_SETGID, CAP_SETUID) : ());
  my $possible = succeeds(sub {
    return enter_mount_namespace($privileged) && keep_capability(@kept) && open(my $file, '<', $main);
  });
  return if !$possible;
  enter_mount_namespace($privileged) or return;
  # The system call filter refuses what it is for as well, if there is none to be had.
  kernel('unshare', CLONE_NEWIPC);
  keep_capability(@kept) or return;
  kernel('prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  keep_to_ourselves(@arguments);
  return 1;
}

1;
