/** The other end of a control connection, made of nothing but bytes: none of our own code reads or writes them. */
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';

export type Message = Record<string, unknown>;

export class RawPeer {
  readonly #input: Readable;
  readonly #output: Writable;
  #bytes: Buffer = Buffer.alloc(0);
  /** Nothing more comes. */
  isOver = false;
  /** Everything that came, for golden files. */
  all: Buffer = Buffer.alloc(0);

  constructor(input: Readable, output: Writable) {
    this.#input = input;
    this.#output = output;
    output.on('error', () => undefined);
    input.on('error', () => undefined);
    input.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.all = Buffer.concat([this.all, chunk]);
    });
    input.on('close', () => {
      this.isOver = true;
      input.emit('data', Buffer.alloc(0));
    });
    input.on('end', () => {
      this.isOver = true;
      input.emit('data', Buffer.alloc(0));
    });
  }

  write(bytes: Uint8Array | string): void {
    this.#output.write(bytes);
  }

  end(): void {
    this.#output.end();
  }

  static frame(message: object | string): Buffer {
    const content = Buffer.from(typeof message === 'string' ? message : JSON.stringify(message));
    const header = Buffer.alloc(4);
    header.writeUInt32BE(content.length);
    return Buffer.concat([header, content]);
  }

  send(...messages: (object | string)[]): void {
    this.write(Buffer.concat(messages.map((message) => RawPeer.frame(message))));
  }

  /** The greeting that the other end sends, after ours. */
  async greet(line = 'tslirp-control embedder 1.0\n'): Promise<string> {
    this.write(line);
    return this.line();
  }

  async line(): Promise<string> {
    while (!this.#bytes.includes(10)) await this.#more();
    const end = this.#bytes.indexOf(10) + 1;
    const line = this.#bytes.subarray(0, end).toString('latin1');
    this.#bytes = this.#bytes.subarray(end);
    return line;
  }

  async receive(): Promise<Message> {
    while (this.#bytes.length < 4) await this.#more();
    const length = this.#bytes.readUInt32BE(0);
    while (this.#bytes.length < 4 + length) await this.#more();
    const message = JSON.parse(this.#bytes.toString('utf8', 4, 4 + length)) as Message;
    this.#bytes = this.#bytes.subarray(4 + length);
    return message;
  }

  /** Passes over whatever else comes before. */
  async receiveWhere(matches: (message: Message) => boolean): Promise<Message> {
    for (;;) {
      const message = await this.receive();
      if (matches(message)) return message;
    }
  }

  /** The answer to a request; settings that are asked about meanwhile are accepted. */
  async ask(message: Message): Promise<Message> {
    this.send(message);
    return this.answer(message['id'] as number);
  }

  async answer(id: number): Promise<Message> {
    return this.receiveWhere((each) => {
      if (each['type'] === 'settings') this.send({ re: each['id'], ok: true });
      return each['re'] === id;
    });
  }

  /** All that still comes until the end. */
  async rest(): Promise<Message[]> {
    const messages: Message[] = [];
    for (;;) {
      try {
        messages.push(await this.receive());
      } catch {
        return messages;
      }
    }
  }

  async #more(): Promise<void> {
    if (this.isOver) throw new Error('the other end has closed');
    await once(this.#input, 'data');
  }
}
