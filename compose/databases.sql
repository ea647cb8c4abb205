-- psql runs it at the first start; the ledger's owner makes the roles of members (tracker ledger grant)
\getenv owner LEDGER_OWNER_PASSWORD
\getenv mlflow MLFLOW_DATABASE_PASSWORD
\getenv board BOARD_DATABASE_PASSWORD
CREATE ROLE owner LOGIN CREATEROLE CREATEDB PASSWORD :'owner';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE auth OWNER mlflow;
CREATE DATABASE ledger OWNER owner;
REVOKE ALL ON DATABASE mlflow, auth, ledger FROM PUBLIC;
-- the board's: it reads all that is in a database which it may enter, and of ours that is one
CREATE ROLE reader LOGIN PASSWORD :'board';
GRANT pg_read_all_data TO reader;
GRANT CONNECT ON DATABASE ledger TO reader;
