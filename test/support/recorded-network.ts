/**
 * What the kernel said of a host with an interface eth0 (192.0.2.10/24, 192.0.2.11/24, 2001:db8::10/64), a default route of
 * each family, one by two routers, one without a router and one through that; and an interface out0 with nothing but a
 * link-local address. As gzip'ed answers to RTM_GETLINK, RTM_GETADDR and RTM_GETROUTE (IPv4, IPv6), Linux 6.18.
 */
import { gunzipSync } from 'node:zlib';
import { type HostNetwork, readHostNetwork } from '../../src/template/host-network.ts';

const ROUTED = `
H4sICIlRDGsCA3JvdXRlZC5iaW4A7VjPTxNBFH4zs1tKK1JNE4kmipH4Ix5sBD1g1QqYqDEGPXkiEAE9EKEJ9erCyYN/BH+GBw+cTIz+AR48cC
QcPBgOXuj63sxbup3ddlugaSB9Sfu2u/N9772ZN9/u9qsLkAMJAgC+V/ALHEXHT/UZgD5QsLQMkIYB2FYALo4mc+EM+0k9Mg0Ofgv0t/X5NIyy
v8D+Ivv77C8x7jr4PvkbjB9n/5B9if09+Of3oS/y+AnmGdY8Llxmvit8/hb7gvYpmGL/mPO+pn2G6zTHcv/4J5yDk2LzuIqdtlNwE+dU8nEK3i
+XKwuVBSio8/AZz38KzTPoFa3/QMjbJppci7McLi31ahzPhsxgT2g2L48ZUy+9uvMM5lcMZpdrKDHCztNH2xg0Y+nYG+8H76UACvdaAu+Oeszs
TuNcicPOW1g5Q5P58f7cbXpdmxPEMvHscWNCwVXoWTtWxB4/6K7KxyBd7EqyETidiHfggefAI+9XRLuF7t7JnFnhfuzK5cpqwehgTb9Tln4D6/
dvF7R+T7F+G51trN/yiPRbWvotWb8F67dI0O+dld0Xb/8a/fZ9s6NIvwMJCHxG1PvjpN+K66DcO5F/WL9zcBZ7R8CHhdV3Zo1cHfuodb1da1fX
y6jrs+WorlOfN9N1TXJIXRcxeXdT14Np27LGqIQ5Vwn4bptKqGOrzbyb6brqoq4rS9dxa554XZdGjHq63kFdl8dU15cmerre0/Xjpet5HSus6w
DPNX/tnEx7VaOPAj5ii6TxGvna/zBp8DQmxZro+/T+Sp9pm2vI07UR1ybIDHGRr79/RPlmkGsmlm8tzJdlvqzNt2bxzSHXXAxfxjO15qM7QcTV
F+TqQlYjInylzT3JfFXPEG2v7PpVfDsI85F+lJlvk/moricRvnV9nviGxcCX8NYP8y0i1yLzrTfIS1l50fauWjyN8orrmyJ+hsJrg76qzESmYR
Cq2qfwHmN0HtdJ0LMA8Y3Z2GHC7llYAZk3sI+JxBuKi0cYoeMlYmU0HuaIvo97tb2430bngzplgJ1uEfsDyriP+/W9QNXmS+Xoz9DabyeSC0qA
L6sy4PNr+1bXYfavo8cXY+a8AVa0htUtVY/FHjpoXDPnCXPfGJttDRvNGTG+jY3r91WLL1OiHqpfy5h9qvcAjQq4R/BpJ8lcnQHgM5AVsxDtn/
2YrhXToWuunY88SB6t1h7SlkjtsgsxD11nA00L5taKLY4kpkd9CnU9Hnd/0nnw+5XoUEz7nhOOeeg6tXaZrg3H9KGDPXSAmO3WGacd/wGOxWe6
5BoAAA==`;

export function routedHostBytes(): Buffer {
  return gunzipSync(Buffer.from(ROUTED, 'base64'));
}

export function routedHost(): HostNetwork {
  const bytes = routedHostBytes();
  return readHostNetwork(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), bytes.length);
}
