# The end of the input is there for every reader, not for the first alone.
echo before; cat; cat | wc -l; read line; echo "read $?"
one line
another
