/**
 * Descriptors that the caller may have passed on. Node itself, and what we start before it (bin/launch.pl), have some open
 * before any code of ours runs, so that a number which was closed when we were started may be in use now: writing to such a
 * one, or waiting for it, would be a mistake.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { brokerEnd } from '../sandbox/broker.ts';

function link(fd: number | string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '';
  }
}

/** Whether `fd` is open and neither the runtime's own nor leads to the broker. To be asked before anything of ours opens descriptors. */
export function isInherited(fd: number): boolean {
  if (fd === brokerEnd?.fd) return false;
  const target = link(fd);
  if (target === '' || target.startsWith('anon_inode:[event') || target.startsWith('anon_inode:[io_uring'))
    return false;
  if (fd <= 2 || !target.startsWith('pipe:')) return true;
  // The runtime's pipes have both ends in this process; of a caller's, we are given one.
  return !readdirSync('/proc/self/fd').some(
    (other) => Number(other) > 2 && Number(other) !== fd && link(other) === target,
  );
}
