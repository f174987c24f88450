//! Files of the partition that the loader came from.

use uefi::{
    CString16, Status,
    boot::{self, MemoryType},
    proto::media::file::{Directory, File, FileAttribute, FileInfo, FileMode, RegularFile},
};

use super::{error::Error, memory::Pages};

/// Read by so much at a time: some firmware fails at more.
const CHUNK: usize = 1 << 20;

/// The partition.
pub struct Volume(Directory);

impl Volume {
    /// The one that this program was loaded from.
    ///
    /// # Errors
    /// It has no file system that firmware reads.
    pub fn of_this_program() -> Result<Self, Error> {
        let fail = |error: uefi::Error| Error::NoVolume(error.status());
        let mut file_system = boot::get_image_file_system(boot::image_handle()).map_err(fail)?;
        file_system.open_volume().map(Self).map_err(fail)
    }

    /// Reads a file of at most `most` bytes into pages of its own.
    ///
    /// # Errors
    /// It is not there, too large, cannot be read, or there is no memory for it.
    pub fn read(&mut self, path: &str, most: u64) -> Result<Pages, Error> {
        let fail = |status| Error::File(path.into(), status);
        let name =
            CString16::try_from(path.replace('/', "\\").as_str()).map_err(|_| fail(Status::INVALID_PARAMETER))?;
        let mut file = self
            .0
            .open(&name, FileMode::Read, FileAttribute::empty())
            .map_err(|error| fail(error.status()))?
            .into_regular_file()
            .ok_or_else(|| fail(Status::INVALID_PARAMETER))?;
        let info = file
            .get_boxed_info::<FileInfo>()
            .map_err(|error| fail(error.status()))?;
        let size = info.file_size();
        if size > most {
            return Err(Error::LargeFile(path.into(), size));
        }
        let length = usize::try_from(size).map_err(|_| Error::Memory(size))?;
        let mut pages = Pages::allocate(length, MemoryType::LOADER_DATA)?;
        fill(&mut file, pages.bytes_mut()).map_err(fail)?;
        Ok(pages)
    }
}

/// Reads until the bytes are full; a file that ends before is an error.
fn fill(file: &mut RegularFile, bytes: &mut [u8]) -> Result<(), Status> {
    let mut done = 0;
    while done < bytes.len() {
        let end = bytes.len().min(done + CHUNK);
        match file.read(&mut bytes[done..end]) {
            Ok(0) => return Err(Status::END_OF_FILE),
            Ok(read) => done += read,
            Err(error) => return Err(error.status()),
        }
    }
    Ok(())
}
