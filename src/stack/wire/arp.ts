/**
 * ARP for IPv4 over Ethernet (RFC 826). Only request and reply; RARP and inverse ARP are malformed to us (hazard E-03).
 */
import { DropReason } from './drop-reason.ts';
import { ETHERTYPE_IPV4 } from './ethernet.ts';

/** Bytes of an ARP body for Ethernet and IPv4. */
export const ARP_LEN = 28;
export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;

const HTYPE_ETHERNET = 1;
const PTYPE = 2;
const HLEN = 4;
const OPERATION = 6;
const SENDER_MAC = 8;
const SENDER_IP = 14;
const TARGET_MAC = 18;
const TARGET_IP = 24;

/** Parsed body. IP addresses are unsigned 32-bit values. */
export class ArpPacket {
  operation = 0;
  senderHi = 0;
  senderLo = 0;
  senderIp = 0;
  targetHi = 0;
  targetLo = 0;
  targetIp = 0;
}

/** Reads the body behind the Ethernet header; 0 or `ArpMalformed`. Bytes behind the 28 are padding. */
export function parseArp(view: DataView, off: number, len: number, out: ArpPacket): number {
  if (len < ARP_LEN) return DropReason.ArpMalformed;
  if (view.getUint16(off) !== HTYPE_ETHERNET) return DropReason.ArpMalformed;
  if (view.getUint16(off + PTYPE) !== ETHERTYPE_IPV4) return DropReason.ArpMalformed;
  if (view.getUint16(off + HLEN) !== 0x0604) return DropReason.ArpMalformed;
  const operation = view.getUint16(off + OPERATION);
  if (operation !== ARP_REQUEST && operation !== ARP_REPLY) return DropReason.ArpMalformed;
  out.operation = operation;
  out.senderHi = view.getUint16(off + SENDER_MAC);
  out.senderLo = view.getUint32(off + SENDER_MAC + 2);
  out.senderIp = view.getUint32(off + SENDER_IP);
  out.targetHi = view.getUint16(off + TARGET_MAC);
  out.targetLo = view.getUint32(off + TARGET_MAC + 2);
  out.targetIp = view.getUint32(off + TARGET_IP);
  return 0;
}

/** Writes 28 bytes; returns 28. */
export function emitArp(view: DataView, off: number, p: ArpPacket): number {
  view.setUint16(off, HTYPE_ETHERNET);
  view.setUint16(off + PTYPE, ETHERTYPE_IPV4);
  view.setUint16(off + HLEN, 0x0604);
  view.setUint16(off + OPERATION, p.operation);
  view.setUint16(off + SENDER_MAC, p.senderHi);
  view.setUint32(off + SENDER_MAC + 2, p.senderLo);
  view.setUint32(off + SENDER_IP, p.senderIp);
  view.setUint16(off + TARGET_MAC, p.targetHi);
  view.setUint32(off + TARGET_MAC + 2, p.targetLo);
  view.setUint32(off + TARGET_IP, p.targetIp);
  return ARP_LEN;
}
