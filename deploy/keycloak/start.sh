#!/bin/bash
# Keycloak reads secrets from the environment alone; here they come from files, into this one process.
set -euo pipefail
secrets=${SECRETS:-/run/secrets}
KC_DB_PASSWORD=$(<"$secrets/keycloak_database")
KC_BOOTSTRAP_ADMIN_PASSWORD=$(<"$secrets/keycloak_admin")
HUB_LOGIN_SECRET=$(<"$secrets/login_client")
export KC_DB_PASSWORD KC_BOOTSTRAP_ADMIN_PASSWORD HUB_LOGIN_SECRET
exec /opt/keycloak/bin/kc.sh start --optimized --import-realm
