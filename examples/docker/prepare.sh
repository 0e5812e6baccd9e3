#!/bin/sh
# Makes what docker-compose.yml needs and nobody should copy from an example: passwords and the keys of the store. An
# operator's key pair is made elsewhere: it only looks for the public half. What is there stays as it is.
set -eu
umask 022
cd "$(dirname "$0")/../.."

# The folder keeps others on this machine out; the containers' own users must be able to read the files in it.
mkdir -p secrets
chmod 700 secrets
secret() { [ -e "secrets/$1" ] || head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"secrets/$1"; }
for name in postgres_admin postgres_backup mariadb_admin mariadb_backup store_key_id store_key; do secret "$name"; done
[ -e secrets/store_users.json ] || cat >secrets/store_users.json <<JSON
{
  "identities": [
    {
      "name": "sealift",
      "credentials": [{ "accessKey": "$(cat secrets/store_key_id)", "secretKey": "$(cat secrets/store_key)" }],
      "actions": ["Admin:backups", "Read:backups", "Write:backups", "List:backups", "Tagging:backups"]
    }
  ]
}
JSON

if ! ls keys/recipients/*.asc >/dev/null 2>&1; then
  echo "There is no public key in keys/recipients yet. On your own machine, never here:"
  echo '  sealift keys generate --user-id "Ada Lovelace <ada@example.org>" --out keys'
  echo "then copy ada-lovelace.pub.asc to keys/recipients/ here."
fi
