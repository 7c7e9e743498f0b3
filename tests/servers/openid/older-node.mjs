// What the provider takes for granted and Node 18 (Debian 12) lacks. Nothing happens on a newer one.
import crypto, { webcrypto } from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';

globalThis.crypto ??= webcrypto;
crypto.hash ??= (algorithm, data, encoding) => {
  const hash = crypto.createHash(algorithm).update(data);
  return encoding === 'buffer' ? hash.digest() : hash.digest(encoding ?? 'hex');
};
syncBuiltinESMExports();
URL.parse ??= (url, base) => {
  try {
    return new URL(url, base);
  } catch {
    return null;
  }
};
