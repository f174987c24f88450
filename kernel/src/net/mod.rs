//! Sockets. Of address families there is one: [`unix`], between the processes of this machine.

pub mod unix;
