module promsidecar.invalid/tests/tools/node

go 1.24
