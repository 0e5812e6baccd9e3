#!/bin/sh
# Makes the user `backup`, which may read everything, the hashes of passwords too, and change nothing. The image of
# MariaDB runs it once, when the server is made.
set -eu
password=$(cat "${BACKUP_PASSWORD_FILE:-/run/secrets/mariadb_backup}")
case $password in *[!0-9A-Za-z]*) echo "the password of backup may hold letters and digits only" >&2; exit 1 ;; esac
# By standard input, because everybody can see arguments.
MYSQL_PWD="${MARIADB_ROOT_PASSWORD-}" mariadb --protocol=socket --user=root <<SQL
CREATE USER backup@'%' IDENTIFIED BY '$password';
GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, SHOW DATABASES ON *.* TO backup@'%';
SQL
