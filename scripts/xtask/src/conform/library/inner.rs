//! The tests that stand inside of std's modules, each below a module of the same name that shows what the real one does.

#![feature(core_io_borrowed_buf, io_error_uncategorized, read_buf, test, unix_socket_ancillary_data, unix_socket_peek)]

extern crate test;

pub use std::*;

#[path = "{std}/src/test_helpers.rs"]
pub mod test_helpers;

pub mod process {
    pub use std::process::*;
    #[path = "{std}/src/process/tests.rs"]
    mod tests;
}

pub mod thread {
    pub use std::thread::*;

    // std keeps its own to itself.
    pub fn current_os_id() -> u64 {
        let path = std::fs::read_link("/proc/thread-self").unwrap();
        path.file_name().unwrap().to_str().unwrap().parse().unwrap()
    }

    #[path = "{std}/src/thread/tests.rs"]
    mod tests;
}

mod unix_process {
    #[path = "{std}/src/sys/process/unix/unix/tests.rs"]
    mod tests;
}

mod pipe {
    #[path = "{std}/src/io/pipe/tests.rs"]
    mod tests;
}

pub mod os {
    pub use std::os::*;

    pub mod fd {
        pub use std::os::fd::*;
        #[path = "{std}/src/os/fd/tests.rs"]
        mod tests;
    }

    pub mod unix {
        pub use std::os::unix::*;

        pub mod net {
            pub use std::os::unix::net::*;
            #[path = "{std}/src/os/unix/net/tests.rs"]
            mod tests;
        }
    }
}
