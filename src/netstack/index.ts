/**
 * `tslirp/stack`: an IPv4, IPv6, TCP, UDP and ICMP stack without an operating system under it. Frames come from wherever its
 * user has them (an emulator, a WebSocket, a test), the clock too. It runs in Node and in browsers alike.
 */
export { IpAddress, parseIpAddress } from '../stack/wire/address.ts';
export type { Datagram } from './datagrams.ts';
export type { StackOptions } from './options.ts';
export { Stack } from './stack.ts';
export { streamsOf, type TcpStreams } from './streams.ts';
export type { ConnectionRequest, TcpCloseReason, TcpSocket } from './tcp-socket.ts';
