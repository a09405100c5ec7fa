// Takes the place of node:module in bundles. The foreign function library asks for a `require` of its own, for which the
// runtime would load its loader of ES modules; a bundle has one already.
export const createRequire = () => require;
