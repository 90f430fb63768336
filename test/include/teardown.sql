\set ECHO none
-- The end of every regress test: its database goes.
\c :"regression_db"
DROP DATABASE :"test_db";
