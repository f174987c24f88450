//! The examples do what they say.

#![cfg(not(loom))]

#[path = "../examples/interrupts.rs"]
mod interrupts;
#[path = "../examples/own_platform.rs"]
mod own_platform;
#[path = "../examples/threads.rs"]
mod threads;

macro_rules! runs {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                $name::main();
            }
        )*
    };
}

runs!(interrupts, own_platform, threads);
