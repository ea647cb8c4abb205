-- psql runs it at the first start; the ledger's owner makes the roles of members (tracker ledger grant)
\getenv owner LEDGER_OWNER_PASSWORD
\getenv mlflow MLFLOW_DATABASE_PASSWORD
CREATE ROLE owner LOGIN CREATEROLE CREATEDB PASSWORD :'owner';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE auth OWNER mlflow;
CREATE DATABASE ledger OWNER owner;
REVOKE ALL ON DATABASE mlflow, auth, ledger FROM PUBLIC;
