/** What the difference between the store's clock and the local one means (rule R9). */
export type ClockVerdict = 'fine' | 'warn' | 'refuse';

const warnAboveSeconds = 5 * 60;
const refuseAboveSeconds = 3600;

export function judgeClocks(store: Date, local: Date): ClockVerdict {
  const apart = Math.abs(store.getTime() - local.getTime()) / 1000;
  if (apart > refuseAboveSeconds) return 'refuse';
  return apart > warnAboveSeconds ? 'warn' : 'fine';
}
