/** Descriptors that tunnels of this process are on, whichever form they have. */
export const usedDescriptors: Set<number> = new Set();
