/** What the tests of both makers' servers share. */

export const quoted = (name: string): string => `\`${name.replaceAll('`', '``')}\``;
export const literal = (text: string): string => `'${text.replace(/['\\]/g, '\\$&')}'`;

export const everyByte = Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString('hex');

/** What would make the client touch the file `mark`, or show what `secret` holds, in a dump. */
export const hostileTexts = (mark: string, secret: string): string[] => [
  `\\! touch ${mark}\n`,
  `system touch ${mark}\n`,
  `system touch ${mark};\n`,
  `SELECT 1 \\! touch ${mark}\n;\n`,
  `DELIMITER //\n\\! touch ${mark}\n//\nDELIMITER ;\n`,
  `DELIMITER //\nsystem touch ${mark}\n//\nDELIMITER ;\n`,
  `delimiter \\!\nSELECT 1\\! touch ${mark}\n`,
  `DELIMITER ;;\nsystem touch ${mark} ;;\n`,
  `/*!50003 SELECT 1 */ \\! touch ${mark}\n;`,
  `/*M!999999\\- enable the sandbox mode */ \nsystem touch ${mark}\n`,
  `-- \\! touch ${mark}\n\\! touch ${mark}\n`,
  `tee ${mark}\nSELECT 1;\n`,
  `\\T ${mark}\nSELECT 1;\n`,
  `pager touch ${mark}\nSELECT 1;\n`,
  `edit\n\\e\n`,
  `source ${secret}\n`,
  `\\. ${secret}\n`,
  `LOAD DATA LOCAL INFILE '${secret}' INTO TABLE \`t a\` (text);\n`,
  `\\u mysql\n\\! touch ${mark}\n`,
];
