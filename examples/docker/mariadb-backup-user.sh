#!/bin/sh
# Makes the user `backup`, which may read everything and change nothing. The image of MariaDB runs it once, when the
# server is made, and lets it in by its own socket.
set -eu
password=$(cat "${BACKUP_PASSWORD_FILE:-/run/secrets/mariadb_backup}")
mariadb --protocol=socket --user=root ${MARIADB_ROOT_DEFAULTS:+"$MARIADB_ROOT_DEFAULTS"} <<SQL
CREATE USER backup@'%' IDENTIFIED BY '$password';
GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, LOCK TABLES, SHOW CREATE ROUTINE, RELOAD, PROCESS ON *.* TO backup@'%';
SQL
