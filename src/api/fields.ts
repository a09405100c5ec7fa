/**
 * Reading the fields of a request. A request comes from a program that may be wrong or hostile: only own properties
 * count, nothing is converted, and what does not fit is undefined.
 */
import { isIP } from 'node:net';

export type JsonObject = Readonly<Record<string, unknown>>;

/** The request cannot be done; the text is what the client is told. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function field(object: JsonObject, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

/** A whole number of `min` or more; fractions are cut off. */
export function integerField(object: JsonObject, name: string, min: number, max: number): number | undefined {
  const value = field(object, name);
  if (typeof value !== 'number') return undefined;
  const whole = Math.trunc(value);
  // 0.5 is not a wish for 0.
  return whole >= min && whole <= max && (whole !== 0 || value === 0) ? whole : undefined;
}

/** A literal address of the family; missing or empty stands for `otherwise`. */
export function addressField(
  object: JsonObject,
  name: string,
  families: readonly number[],
  otherwise: string,
): string | undefined {
  const value = field(object, name);
  if (value === undefined || value === '') return otherwise === '' ? undefined : otherwise;
  if (typeof value !== 'string' || value.includes('%') || !families.includes(isIP(value))) return undefined;
  return value;
}
