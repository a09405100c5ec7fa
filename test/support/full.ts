/** `make hazards` runs hazard tests at a size that is too slow for `make test`. */
export const FULL: boolean = process.env['HAZARDS_FULL'] === '1';
