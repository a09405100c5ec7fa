/** The four messages of WireGuard (the WireGuard paper §5.4): types, lengths, and where their fields are. */

export const MessageType = { Initiation: 1, Response: 2, Cookie: 3, Data: 4 } as const;
export type MessageType = (typeof MessageType)[keyof typeof MessageType];

/** Bytes of a whole message; of a data message, the least: a keep-alive. */
export const INITIATION_BYTES = 148;
export const RESPONSE_BYTES = 92;
export const COOKIE_BYTES = 64;
export const DATA_OVERHEAD = 32;

/** In all messages. */
export const SENDER_AT = 4;
/** The index of the one it is sent to: in a response behind the sender's, else in its place. */
export const RECEIVER_AT = 4;
export const RESPONSE_RECEIVER_AT = 8;

export const DATA_COUNTER_AT = 8;
export const DATA_PACKET_AT = 16;

/** Both handshake messages end with two MACs, of all bytes before each. */
export const MACS_BYTES = 32;

/** What a datagram of this length that begins with this little-endian word is; 0: nothing of ours. */
export function messageType(firstWord: number, length: number): MessageType | 0 {
  switch (firstWord) {
    case MessageType.Initiation:
      return length === INITIATION_BYTES ? MessageType.Initiation : 0;
    case MessageType.Response:
      return length === RESPONSE_BYTES ? MessageType.Response : 0;
    case MessageType.Cookie:
      return length === COOKIE_BYTES ? MessageType.Cookie : 0;
    case MessageType.Data:
      return length >= DATA_OVERHEAD ? MessageType.Data : 0;
    default:
      return 0;
  }
}
