/** By its first two numbers, whatever stands behind them: `10.11.6-MariaDB`. */
export function isAtLeast(version: string, major: number, minor: number): boolean {
  const [first = 0, second = 0] = version.split('.', 2).map((part) => parseInt(part, 10));
  return first > major || (first === major && second >= minor);
}
