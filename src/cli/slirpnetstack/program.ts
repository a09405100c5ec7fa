/**
 * What `slirpnetstack` does, in the order in which it does it: flags, metrics, link, local forwards, remote forwards, and
 * the word that it has started; then flows are told as they come and go, until a signal ends it.
 */
import { closeSync, openSync } from 'node:fs';
import type { MetricsServer } from '../../api/metrics-server.ts';
import { dismissBroker } from '../../app/dismiss-broker.ts';
import { isInherited } from '../../app/inherited.ts';
import { Ending } from '../../app/lifecycle.ts';
import { LineOutput } from '../../app/line-output.ts';
import { Logger } from '../../app/logger.ts';
import { sayError, sayOut } from '../../app/say.ts';
import type { ServedGuest } from '../../app/served-guest.ts';
import { Serving } from '../../app/serving.ts';
import type { ForwardSpec } from '../../config.ts';
import type { OpenForward } from '../../control/engine-client.ts';
import { Resolver } from '../../control/names/resolver.ts';
import { Supervisor } from '../../control/supervisor.ts';
import { DeviceError } from '../../device-error.ts';
import type { FlowEvent } from '../../engine/messages.ts';
import { EventHub } from '../../expose/event-hub.ts';
import { brokerEnd } from '../../sandbox/broker.ts';
import { type NamespaceRef, namespaceOfPath } from '../../sandbox/namespace.ts';
import { formatEndpoint } from '../../stack/wire/address.ts';
import { configuration } from './configuration.ts';
import { ForwardOpener, resolveForward } from './forward-opener.ts';
import { goErrorOf } from './go-errors.ts';
import { FlagError } from './go-flags.ts';
import { announcement, flowLine, isLookupError, leftOutLine, oneLine } from './lines.ts';
import { type MetricsAddress, type Options, parseOptions } from './options.ts';
import type { EndSignals } from './signals.ts';
import { checkMtu, ExitStatus, linkError, namespaceError, StartError } from './start-error.ts';
import { usage } from './usage.ts';
import { versionText } from './version.ts';

const SIGTERM = 15;
const EBADF = 9;
/** The data plane cannot go on; the original has no such end. */
const EXIT_BROKEN = 1;

function say(line: string): void {
  sayError(`${oneLine(line)}\n`);
}

export async function run(signals: EndSignals): Promise<void> {
  let options: Options;
  try {
    options = await parseOptions(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof FlagError)) throw error;
    if (error.message !== '') say(error.message);
    for (const line of usage(process.argv0).trimEnd().split('\n')) say(line.replaceAll('\t', '    '));
    process.exitCode = ExitStatus.Usage;
    dismissBroker();
    return;
  }
  if (!options.version && !options.printConfig) {
    await new Program(options).start(signals);
    return;
  }
  if (options.version) sayOut(versionText());
  else await printConfig(options);
  dismissBroker();
}

/** What would be served, with the names in forwards resolved, and nothing else happens. */
async function printConfig(options: Options): Promise<void> {
  const resolver = new Resolver();
  const rules = [...options.local, ...options.remote];
  try {
    const forwards = await Promise.all(rules.map((rule) => resolveForward(rule, resolver)));
    const { guest, ...rest } = configuration(options);
    const { printConfig: print } = await import('../print-config.ts');
    print({ ...rest, guest: { ...guest, forwards } });
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    for (const line of error.lines) say(line);
    process.exitCode = error.status;
  }
}

class Program {
  readonly #options: Options;
  readonly #parent = process.ppid;
  readonly #output = new LineOutput();
  readonly #supervisor: Supervisor;
  readonly #ending: Ending;
  readonly #guest: ServedGuest;
  readonly #forwards = new Map<number, ForwardSpec>();
  /** Asked before anything of ours opens descriptors. */
  readonly #fdIsOpen: boolean;
  #metrics: MetricsServer | undefined;

  constructor(options: Options) {
    this.#options = options;
    this.#fdIsOpen = options.fd < 0 || isInherited(options.fd);
    const config = configuration(options);
    const { limits, logLevel } = config.process;
    this.#supervisor = new Supervisor({ limits, debug: false, broker: brokerEnd });
    this.#ending = new Ending(this.#supervisor);
    const serving = new Serving(config.process, this.#supervisor, new Logger(logLevel), new EventHub(), {
      exitRequested: () => undefined,
      failed: (message) => {
        if (!this.#ending.started) say(`[!] ${message}`);
        this.#ending.finish(EXIT_BROKEN);
      },
    });
    this.#guest = serving.add(config.guest, {
      linkGone: () => this.#close(),
      flows: (event) => {
        if (event.type === 'flow') this.#tell(event);
        else if (event.type === 'flowsLeftOut' && !options.quiet) this.#output.line(leftOutLine(event.flows));
      },
    });
  }

  async start(signals: EndSignals): Promise<void> {
    try {
      await this.#bringUp();
    } catch (error) {
      const { status, lines } =
        error instanceof StartError ? error : new StartError(ExitStatus.CreateNic, `[!] ${goErrorOf(error)}`);
      if (!this.#ending.started) for (const line of lines) say(line);
      this.#metrics?.close();
      this.#ending.finish(status);
      return;
    }
    say(`[+] #${process.pid} Slirpnetstack started`);
    this.#notifyParent();
    signals.whenReceived(() => this.#close());
  }

  async #bringUp(): Promise<void> {
    const { metrics, fd, netns, exitWithParent, local, remote } = this.#options;
    if (metrics !== null) await this.#startMetrics(metrics);
    if (fd >= 0 && netns !== '') {
      throw new StartError(ExitStatus.FdAndNetns, 'Please specify either -fd or -netns');
    }
    if (exitWithParent) this.#supervisor.send({ type: 'parentDeathSignal', signal: SIGTERM });
    await this.#attach();
    // It may have ended before the kernel knew that we want to hear of it.
    if (exitWithParent && process.ppid !== this.#parent) process.kill(process.pid, 'SIGTERM');
    const opener = new ForwardOpener(this.#guest.client);
    for (const rule of [...local, ...remote]) this.#announce(await opener.open(rule));
  }

  async #startMetrics(at: MetricsAddress): Promise<void> {
    const shown = at.net === 'unix' ? at.path : formatEndpoint(at);
    const fail = (reason: string): StartError =>
      new StartError(ExitStatus.Metrics, `[!] Failed to start metrics: listen ${at.net} ${shown}: ${reason}`);
    if (at.net === 'udp') throw fail(`address ${shown}: unexpected address type`);
    const [{ MetricsServer }, { metricsPage }] = await Promise.all([
      import('../../api/metrics-server.ts'),
      import('../../api/metrics-page.ts'),
    ]);
    const server = new MetricsServer(async () => metricsPage(await this.#guest.client.snapshot()));
    try {
      const bound = await server.listen(at);
      this.#metrics = server;
      say(`[ ] #${process.pid} Running metrics on ${bound}`);
    } catch (error) {
      throw fail(`bind: ${goErrorOf(error)}`);
    }
  }

  async #attach(): Promise<void> {
    const { netns, interface: name, fd, mtu } = this.#options;
    if (fd >= 0) {
      checkMtu(mtu);
      try {
        if (!this.#fdIsOpen) throw new DeviceError('link', EBADF, 'not an inherited descriptor');
        await this.#guest.attach({ kind: 'descriptor', fd });
      } catch (error) {
        throw linkError(error, this.#options);
      }
      return;
    }
    let namespace: NamespaceRef;
    if (netns === '') namespace = namespaceOfPath('/proc/self/ns/net');
    else {
      say(`[.] Joininig netns ${netns}`);
      try {
        closeSync(openSync(netns, 'r'));
        namespace = namespaceOfPath(netns);
      } catch (error) {
        throw namespaceError(netns, `open ${netns}: ${goErrorOf(error)}`);
      }
    }
    const opening = (): void => say(`[.] Opening tun interface ${name}`);
    try {
      await this.#guest.attach(namespace);
      opening();
    } catch (error) {
      const failure = linkError(error, this.#options);
      if (!failure.lines[0]?.startsWith("[!] Can't join")) opening();
      throw failure;
    }
  }

  #announce({ id, spec, listen }: OpenForward): void {
    this.#forwards.set(id, spec);
    if (!this.#options.quiet) this.#output.line(oneLine(announcement(spec, listen)));
  }

  #tell(event: FlowEvent): void {
    if (this.#options.quiet && !isLookupError(event)) return;
    this.#output.line(oneLine(flowLine(event, this.#forwards.get(event.forward) ?? null)));
  }

  /** Whoever started us may be waiting for this. */
  #notifyParent(): void {
    try {
      if (process.ppid > 0) process.kill(process.ppid, 'SIGWINCH');
    } catch {
      // It is somebody else's, or gone.
    }
  }

  #close(): void {
    if (this.#ending.started) return;
    say(`[-] #${process.pid} Slirpnetstack closing`);
    if (this.#metrics !== undefined) {
      say(`[ ] #${process.pid} Stopping metrics`);
      this.#metrics.close();
    }
    this.#ending.finish(0);
  }
}
