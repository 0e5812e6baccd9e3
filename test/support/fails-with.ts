import assert from 'node:assert/strict';
import { SealiftError } from '../../src/errors.ts';

/** For `assert.rejects`: an error with this code, and with a message and a hint that match. */
export const failsWith =
  (code: string, message = /(?:)/, hint = /(?:)/) =>
  (error: unknown) => {
    assert.ok(error instanceof SealiftError, String(error));
    assert.deepEqual([error.code, message.test(error.message)], [code, true], error.message);
    assert.match(error.hint ?? '', hint);
    return true;
  };
