import { config } from 'zod';

// Zod would compile a validator at its first use, which is the only one that most have (docs/measurements.md).
config({ jitless: true });

export * from 'zod';
