/** The other side of a device of kind `sent`: opens an interface with rights that the data plane does not have. */
import type { AddressPlan, InterfaceDevice } from '../config.ts';
import type { OpenedInterface } from '../device/open-interface.ts';
import { DeviceError } from '../device-error.ts';
import { Memory } from '../sys/memory.ts';
import { PASS_SCRATCH_BYTES, sendDescriptor } from '../sys/pass-descriptor.ts';
import { attachInterface } from './open-device.ts';

/** What the interface turned out to be, and the function that sends its descriptors. @throws DeviceError */
export function prepareDevice(
  spec: InterfaceDevice,
  plan: AddressPlan,
): { opened: OpenedInterface; send: (socket: number) => void } {
  const memory = new Memory(new ArrayBuffer(PASS_SCRATCH_BYTES));
  const { tun, netlink, opened } = attachInterface(spec, plan);
  const send = (socket: number): void => {
    let result = sendDescriptor(memory, 0, socket, tun);
    if (result >= 0 && netlink >= 0) result = sendDescriptor(memory, 0, socket, netlink);
    if (result < 0) throw new DeviceError('tun', -result, 'the device cannot be sent');
  };
  return { opened, send };
}
