#!/bin/sh
# One backup of every database, written into the working directory. The service `backup` of docker-compose.yml runs it
# once a day; PGHOST, PGUSER and PGPASSWORD say where and who. docs/team-server.md has the restore.
set -eu
umask 077
now=$(date -u +%Y-%m-%dT%H%M%SZ)
rm -f -- ./*.part # of a backup that was stopped

# Members' passwords are in it as hashes: a new server needs them before the databases.
pg_dumpall --roles-only --file="roles-$now.psql.part"
mv -- "roles-$now.psql.part" "roles-$now.psql"

# The first three are always there: when one is missing, this is an error. The sweeps come with the first member.
sweeps=$(psql --no-psqlrc --tuples-only --no-align --dbname=postgres \
    --command="SELECT datname FROM pg_database WHERE datname = 'ledger_sweeps'")
for name in ledger mlflow auth $sweeps; do
    pg_dump --format=custom --file="$name-$now.dump.part" "$name"
    mv -- "$name-$now.dump.part" "$name-$now.dump"
done

# At the end: while new backups fail, no old one goes.
find . -maxdepth 1 -type f \( -name '*.dump' -o -name 'roles-*.psql' \) -mtime +6 -exec rm -- {} +
