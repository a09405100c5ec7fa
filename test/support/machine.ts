/**
 * A virtual machine: Debian's kernel for clouds, which scripts/need.sh has put where it can be read, and busybox. It runs what
 * it is told line by line. Emulated, so that it needs no right to /dev/kvm: it boots in ten seconds or so.
 */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { asOwner, directory } from './namespaces.ts';
import { must, type Running, start } from './processes.ts';
import { until } from './wait.ts';

const KERNEL = '/var/cache/tslirp-test';
/** In the order in which they need each other. */
const MODULES = [
  ...['virtio_ring', 'virtio', 'virtio_pci_modern_dev', 'virtio_pci_legacy_dev', 'virtio_pci'],
  ...['failover', 'net_failover', 'virtio_net'],
];
const BOOT_MS = 90_000;
const ANSWER_MS = 60_000;

const INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /usr/bin /usr/sbin /sbin
/bin/busybox --install -s
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for m in ${MODULES.join(' ')}; do insmod /modules/$m.ko; done
ip link set lo up
stty -echo
echo BOOTED
while read -r line; do eval "$line"; status=$?; echo; echo "ENDED $status"; done
`;

/** What udhcpc(8) calls. */
const LEASE = `#!/bin/sh
[ "$1" = bound ] || exit 0
ip address flush dev $interface scope global
ip address add $ip/$mask dev $interface
ip route add default via $router
echo "LEASE $ip $router $dns"
`;

async function initramfs(): Promise<string> {
  const root = join(directory, 'machine');
  const image = `${root}.cpio`;
  if (existsSync(image)) return image;
  const put = (path: string, text: string): void => {
    writeFileSync(join(root, path), text);
    chmodSync(join(root, path), 0o755);
  };
  const busybox = (await must(['sh', '-c', 'command -v busybox'])).trim();
  mkdirSync(join(root, 'bin'), { recursive: true });
  mkdirSync(join(root, 'modules'));
  copyFileSync(busybox, join(root, 'bin/busybox'));
  // Debian has it with libraries, or without.
  const libraries = (await must(['sh', '-c', `ldd ${busybox} || :`])).match(/\/\S+/g) ?? [];
  for (const library of libraries.filter((path) => existsSync(path) && path !== busybox)) {
    mkdirSync(join(root, dirname(library)), { recursive: true });
    copyFileSync(library, join(root, library));
  }
  for (const file of readdirSync(KERNEL).filter((name) => name.endsWith('.ko')))
    copyFileSync(join(KERNEL, file), join(root, 'modules', basename(file)));
  put('init', INIT);
  put('lease', LEASE);
  await must(['sh', '-c', `cd ${root} && find . | busybox cpio -o -H newc >${image} && chmod 644 ${image}`]);
  return image;
}

export class Machine {
  readonly #running: Running;

  constructor(running: Running) {
    this.#running = running;
  }

  get output(): string {
    return this.#running.stdout;
  }

  /** Run a line of shell in it; what it printed. Anything but status 0 is an error. */
  async run(line: string): Promise<string> {
    const from = this.output.length;
    this.#running.child.stdin?.write(`${line}\n`);
    let status: string | undefined;
    await until(
      () => {
        status = /^ENDED (\d+)\r?$/m.exec(this.output.slice(from))?.[1];
        return status !== undefined || !this.#running.running;
      },
      `the end of ${line}`,
      ANSWER_MS,
    );
    const said = this.output
      .slice(from)
      .replace(/^ENDED \d+\r?$/m, '')
      .replaceAll('\r', '')
      .trim();
    if (status !== '0') throw new Error(`${line}: status ${status}: ${said}`);
    return said;
  }

  /** Brings an interface up, with an address by DHCP: `LEASE ADDRESS ROUTER DNS`. */
  async lease(name: string): Promise<string> {
    await this.run(`ip link set ${name} up`);
    return this.run(`udhcpc -n -q -t 20 -i ${name} -s /lease 2>/dev/null`);
  }

  async end(): Promise<void> {
    await this.#running.stop();
  }
}

/** Booted. Each of `netdevs` is what QEMU's option of that name has, without the id; they become eth0, eth1 … */
export async function bootMachine(netdevs: readonly string[]): Promise<Machine> {
  if (!existsSync(join(KERNEL, 'vmlinuz')))
    throw new Error(`${KERNEL}/vmlinuz is missing: run scripts/need.sh test as root`);
  const image = await initramfs();
  const running = start(
    asOwner(
      ...['qemu-system-x86_64', '-M', 'pc', '-accel', 'tcg', '-m', '128', '-nographic', '-no-reboot'],
      ...['-kernel', join(KERNEL, 'vmlinuz'), '-initrd', image],
      ...['-append', 'console=ttyS0 quiet panic=-1'],
      ...netdevs.flatMap((netdev, index) => [
        ...['-netdev', `${netdev},id=n${index}`, '-device', `virtio-net-pci,netdev=n${index},romfile=`],
      ]),
    ),
  );
  const machine = new Machine(running);
  try {
    await until(() => machine.output.includes('BOOTED') || !running.running, 'the machine', BOOT_MS);
    if (!running.running) throw new Error(`QEMU ended: ${running.stderr || running.stdout}`);
  } catch (error) {
    await machine.end();
    throw error;
  }
  return machine;
}
