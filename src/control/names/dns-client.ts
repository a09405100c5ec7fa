/**
 * One question to one name server over UDP, and the records of an answer that can be believed.
 *
 * RFC 1035, RFC 5452 §9: every question has a random id and a socket of its own, so a random source port too; the socket
 * is connected, so the kernel takes datagrams from the server's address and port only; id, question, class and the
 * response bit must fit. Anything else is passed over and the wait goes on. Records count when they belong to the name
 * that was asked for, or to one it is an alias of within the same answer.
 *
 * Limits: answers up to 4 KiB (none is asked for beyond 512, RFC 1035 §4.2.1); 1024 unfit datagrams end the question.
 * Compression pointers lead only backward (dns-packet sees to it), so the size bounds the work.
 *
 * Left out on purpose: TCP for truncated answers (what did fit is used), EDNS, DNSSEC.
 */
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import {
  type Answer,
  decode,
  encode,
  RECURSION_DESIRED,
  type SrvAnswer,
  type StringAnswer,
} from 'dns-packet';
import type { Endpoint } from '../../config.ts';
import { withoutFinalDot } from './hosts-file.ts';

/** In all, and how long until the question is put again. */
const QUESTION_MS = 3000;
const REPEAT_MS = 1000;
const MAX_ANSWER = 4096;
const MAX_UNFIT = 1024;
const RESPONSE_BIT = 0x80;

export interface SrvRecord {
  priority: number;
  weight: number;
  port: number;
  target: string;
}

/** Addresses of `name` in one family, as text. Rejects when there is no answer to be had. */
export async function queryAddresses(server: Endpoint, name: string, type: 'A' | 'AAAA'): Promise<string[]> {
  const records = await query(server, name, type);
  return records.flatMap((record) => (record.type === type ? [(record as StringAnswer).data] : []));
}

/** SRV records (RFC 2782) of `name`. Rejects when there is no answer to be had. */
export async function querySrv(server: Endpoint, name: string): Promise<SrvRecord[]> {
  const records = await query(server, name, 'SRV');
  return records.flatMap((record) => {
    if (record.type !== 'SRV') return [];
    const { priority = 0, weight = 0, port, target } = (record as SrvAnswer).data;
    return [{ priority, weight, port, target }];
  });
}

function query(server: Endpoint, name: string, type: 'A' | 'AAAA' | 'SRV'): Promise<Answer[]> {
  const id = randomInt(0x10000);
  const question = encode({
    type: 'query',
    id,
    flags: RECURSION_DESIRED,
    questions: [{ type, name, class: 'IN' }],
  });
  return new Promise((resolve, reject) => {
    const socket = createSocket(server.address.includes(':') ? 'udp6' : 'udp4');
    let unfit = 0;
    let repeat: NodeJS.Timeout | undefined;
    let settled = false;
    const settle = (outcome: () => void): void => {
      if (settled) return;
      settled = true;
      clearInterval(repeat);
      clearTimeout(limit);
      socket.close();
      outcome();
    };
    const fail = (error: Error): void => settle(() => reject(error));
    const limit = setTimeout(() => fail(new Error('no answer in time')), QUESTION_MS);
    const send = (): void =>
      socket.send(question, (error) => {
        if (error !== null) fail(error);
      });
    // Later ones have nothing to add, and none may be left without a listener.
    socket.on('error', fail);
    socket.on('message', (message) => {
      const answer = readAnswer(message, id, name, type);
      if (answer === undefined) {
        if (++unfit >= MAX_UNFIT) fail(new Error('too many answers that do not fit'));
      } else if (answer instanceof Error) fail(answer);
      else settle(() => resolve(answer));
    });
    socket.once('connect', () => {
      send();
      repeat = setInterval(send, REPEAT_MS);
    });
    socket.connect(server.port, server.address);
  });
}

/** The records; an Error that ends the question; or undefined for what is no answer to it. */
function readAnswer(message: Buffer, id: number, name: string, type: string): Answer[] | Error | undefined {
  if (message.length > MAX_ANSWER || message.length < 12) return undefined;
  if (message.readUInt16BE(0) !== id || (message[2]! & RESPONSE_BIT) === 0) return undefined;
  let packet: ReturnType<typeof decode>;
  try {
    packet = decode(message);
  } catch {
    return undefined;
  }
  const { questions = [], answers = [] } = packet;
  const [asked] = questions;
  if (questions.length !== 1 || asked?.type !== type || asked.class !== 'IN' || !same(asked.name, name)) {
    return undefined;
  }
  const { rcode } = packet as unknown as { rcode: string };
  if (rcode !== 'NOERROR') return new Error(`the server says ${rcode}`);
  return recordsOf(answers, name);
}

/** The records of `name` and of the names it is an alias of (RFC 1034 §3.6.2). */
function recordsOf(answers: Answer[], name: string): Answer[] {
  let owner = name;
  for (let hops = 0; hops <= answers.length; hops++) {
    const records = answers.filter((answer) => same(answer.name, owner));
    const alias = records.find(({ type }) => type === 'CNAME') as StringAnswer | undefined;
    if (alias === undefined) return records;
    owner = alias.data;
  }
  return [];
}

function same(a: string, b: string): boolean {
  return withoutFinalDot(a).toLowerCase() === withoutFinalDot(b).toLowerCase();
}
