#!/bin/sh
# Makes the roles and the database on one server, or gives the roles the passwords that the secrets hold now.
#   roles.sh HOST log|keys DATABASE
# hub_migrate owns the tables, hub_append serves, hub_read looks; what each may do there `hub migrate` grants. `hub verify`
# derives the views again in temporary tables.
set -eu
host=$1 of=$2 database=$3
secrets=${SECRETS:-/run/secrets}
PGPASSWORD=$(cat "$secrets/${of}_superuser")
export PGPASSWORD PGHOST="$host" PGUSER=postgres PGDATABASE=postgres

role() { # role NAME SECRET
  ROLE=$1 PASSWORD=$(cat "$secrets/$2") psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 <<'SQL'
\getenv role ROLE
\getenv password PASSWORD
SELECT format('CREATE ROLE %I', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
SELECT format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD %L', :'role', :'password')
\gexec
SQL
}

owned() { # owned DATABASE OWNER: a database that nobody else enters
  DATABASE=$1 OWNER=$2 psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 <<'SQL'
\getenv database DATABASE
\getenv owner OWNER
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'database') \gexec
SQL
}

for name in migrate append read; do role "hub_$name" "${of}_$name"; done
owned "$database" hub_migrate
DATABASE=$database psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 <<'SQL'
\getenv database DATABASE
SELECT format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO hub_append, hub_read', :'database') \gexec
SQL
if [ "$of" = log ] && [ -r "$secrets/keycloak_database" ]; then
  role keycloak keycloak_database
  owned keycloak keycloak
fi
