// Takes the place of node:child_process in bundles: the parser of command lines would start subcommands that are programs of
// their own with it, and we have none.
export const spawn = undefined;
