//! A device at a port: made ready (4.3), asked what it is, and served if it is a keyboard.

use alloc::sync::Arc;
use core::pin::pin;

use arrayvec::ArrayVec;
use futures_util::future::{Either, pending, select};

use super::{
    Bus,
    context::{CONTROL_ENDPOINT, Input, Interrupting, Speed, index_in},
    controller::Controller,
    keyboard::{Endpoint, Next},
    ring::{Producer, SIZE},
    trb::{FROM_DEVICE, Request, Transfer, Trb, code},
};
use crate::{
    drivers::usb::descriptor::{self, Configuration, kind},
    errno::{Errno, Result},
    mm::dma::{self, DmaMemory},
    rt,
    tty::Tty,
};

/// How long (ns) a connection has to be there before it counts (USB 2.0, 7.1.7.3), and a port's reset takes at most.
const DEBOUNCE: u64 = 100_000_000;
const RESET: u64 = 800_000_000;
/// How long the link of USB 3 trains by itself.
const TRAINING: u64 = 400_000_000;
/// Pauses that a device may need after its reset and after it has got its address (USB 2.0, 7.1.7.5 and 9.2.6.3).
const RECOVERY: u64 = 10_000_000;
/// How long a control transfer may take (USB 2.0, 9.2.6.1).
const TRANSFER_LIMIT: u64 = 5_000_000_000;

/// Requests (USB 2.0, table 9-4; HID 1.11, 7.2), and whom they are for.
const CLEAR_FEATURE: u8 = 1;
const GET_DESCRIPTOR: u8 = 6;
const SET_CONFIGURATION: u8 = 9;
const SET_IDLE: u8 = 10;
const SET_PROTOCOL: u8 = 11;
const TO_DEVICE: u8 = 0;
const TO_ENDPOINT: u8 = 2;
const TO_HID: u8 = 0x21;
/// The feature of an endpoint that it is halted.
const HALT: u16 = 0;
/// Reports that are taken without a pause.
const BUDGET: usize = 64;
/// Bytes of a device descriptor that every device sends in one packet.
const FIRST: u16 = 8;
/// Configurations that are looked at.
const CONFIGURATIONS: u8 = 8;

/// Serves what comes to a port, one device after the other, until the controller fails.
pub async fn serve_port<B: Bus>(controller: Arc<Controller<B>>, port: u8, tty: Arc<Tty>) {
    while let Ok(epoch) = controller.connected(port).await {
        let mut epoch = epoch;
        let result = serve(&controller, port, &mut epoch, &tty).await;
        // A device that leaves may fail first.
        let is_there = controller.epoch(port) == epoch && controller.port(port).is_connected();
        match result {
            Err(error) if is_there => log::warn!("USB port {port}: the device is not served: {error:?}"),
            Err(_) => log::info!("USB port {port}: gone"),
            Ok(()) => {}
        }
        if controller.left(port, epoch).await.is_err() {
            return;
        }
    }
}

/// Serves the device at a port until it leaves. `epoch` becomes what it is after the port's reset.
async fn serve<B: Bus>(controller: &Arc<Controller<B>>, port: u8, epoch: &mut u32, tty: &Arc<Tty>) -> Result<()> {
    let speed = make_port_ready(controller, port, epoch).await?;
    let memory = Memory::new(controller)?;
    let slot_type = controller.layout().protocol(port).slot_type;
    let slot = controller.command(port, Trb::enable_slot(slot_type)).await?.slot;
    controller.take_slot(port, slot, &memory.context)?;
    let mut device = Device {
        controller,
        port,
        epoch: *epoch,
        slot,
        speed,
        control: Producer::new(Arc::clone(&memory.control)),
        memory,
    };
    let mut keyboards = ArrayVec::new();
    let result = device.run(&mut keyboards, tty).await;
    // Whatever has happened, the controller has to let go of the memory first.
    if controller.command(port, Trb::disable_slot(slot)).await.is_ok() {
        controller.release_slot(slot);
    } else if !controller.halted().await {
        log::error!("USB port {port}: the controller keeps the device's memory");
        core::mem::forget((device.memory, keyboards));
    }
    result
}

/// Waits until the connection is there to stay, and resets the port (4.3.1).
async fn make_port_ready<B: Bus>(controller: &Controller<B>, port: u8, epoch: &mut u32) -> Result<Speed> {
    let bus = controller.bus();
    bus.sleep_until(bus.now() + DEBOUNCE).await;
    if controller.epoch(port) != *epoch || !controller.port(port).is_connected() {
        return Err(Errno::ENODEV);
    }
    if controller.layout().protocol(port).major >= 3 {
        // Its link trains by itself; if not, once more.
        let trained = controller.port_is(port, TRAINING, |port| port.is_enabled()).await;
        if trained == Err(Errno::ETIMEDOUT) {
            controller.write_port(port, controller.port(port).to_reset_warm());
        }
    } else {
        controller.write_port(port, controller.port(port).to_reset());
    }
    let done = controller
        .port_is(port, RESET, |port| port.is_enabled() || !port.is_connected())
        .await;
    done.map_err(|error| if error == Errno::ETIMEDOUT { Errno::EIO } else { error })?;
    *epoch = controller.epoch(port);
    let status = controller.port(port);
    if !status.is_enabled() {
        return Err(Errno::ENODEV);
    }
    bus.sleep_until(bus.now() + RECOVERY).await;
    Speed::from_port(status.speed()).ok_or(Errno::EIO)
}

/// What the controller has of the kernel's memory for a device.
struct Memory {
    context: Arc<DmaMemory>,
    input: Arc<DmaMemory>,
    control: Arc<DmaMemory>,
    /// What control transfers bring.
    data: Arc<DmaMemory>,
}

impl Memory {
    fn new<B: Bus>(controller: &Controller<B>) -> Result<Self> {
        let page = || controller.memory(SIZE);
        Ok(Self {
            context: page()?,
            input: page()?,
            control: page()?,
            data: page()?,
        })
    }
}

/// Keyboards of a device.
type Keyboards = ArrayVec<Endpoint, { descriptor::KEYBOARDS }>;

/// A device with a slot.
struct Device<'a, B: Bus> {
    controller: &'a Controller<B>,
    port: u8,
    epoch: u32,
    slot: u8,
    speed: Speed,
    control: Producer,
    memory: Memory,
}

impl<B: Bus> Device<'_, B> {
    fn input(&self) -> Input<'_> {
        Input::new(&self.memory.input, self.controller.layout().context)
    }

    async fn command(&self, trb: Trb) -> Result<()> {
        self.controller.command(self.port, trb).await.map(drop)
    }

    /// Asks what the device is, and serves it if it is a keyboard.
    async fn run(&mut self, keyboards: &mut Keyboards, tty: &Arc<Tty>) -> Result<()> {
        let device = self.address().await?;
        let (port, vendor, product) = (self.port, device.vendor, device.product);
        let Some(configuration) = self.find_keyboards(device).await? else {
            let what = if device.class == descriptor::HUB {
                "a hub, which"
            } else {
                "it"
            };
            log::info!("USB port {port}: {vendor:04x}:{product:04x}: {what} is not served");
            return Ok(());
        };
        self.configure(&configuration, keyboards, tty).await?;
        let count = keyboards.len();
        log::info!(
            "USB port {port}: {vendor:04x}:{product:04x}: {count} keyboard(s), {:?} speed",
            self.speed
        );
        self.serve(keyboards).await
    }

    /// Gives the device an address and reads its descriptor (4.3.3, 4.3.4).
    async fn address(&mut self) -> Result<descriptor::Device> {
        let first = self.speed.first_packet();
        let input = self.input().slot(self.speed, self.port, CONTROL_ENDPOINT);
        let input = input.control(first, self.control.dequeue()).finish();
        self.command(Trb::address_device(input, self.slot)).await?;
        let bus = self.controller.bus();
        bus.sleep_until(bus.now() + RECOVERY).await;
        // Its eighth byte says how long the packets are that the rest comes in.
        let mut bytes = [0; descriptor::DEVICE];
        self.descriptor(kind::DEVICE, 0, &mut bytes[..FIRST.into()]).await?;
        let packet = self.speed.packet(bytes[7]).ok_or(Errno::EIO)?;
        if packet != first {
            let input = self.input().control(packet, 0).finish();
            self.command(Trb::evaluate_context(input, self.slot)).await?;
        }
        self.descriptor(kind::DEVICE, 0, &mut bytes).await?;
        descriptor::Device::read(&bytes)
    }

    /// The first configuration with a keyboard.
    async fn find_keyboards(&mut self, device: descriptor::Device) -> Result<Option<Configuration>> {
        for index in 0..device.configurations.min(CONFIGURATIONS) {
            let mut head = [0; descriptor::CONFIGURATION];
            self.descriptor(kind::CONFIGURATION, index, &mut head).await?;
            let length = Configuration::length(&head)?;
            // It is read from the memory itself: it is as long as that at most.
            let length = self.read_descriptor(kind::CONFIGURATION, index, length).await?;
            let mut bytes = alloc::vec![0; length];
            self.memory.data.read_bytes(0, &mut bytes);
            let configuration = Configuration::read(&bytes)?;
            if !configuration.keyboards.is_empty() {
                return Ok(Some(configuration));
            }
        }
        Ok(None)
    }

    /// Selects a configuration and makes its keyboards ready (4.3.5).
    async fn configure(
        &mut self,
        configuration: &Configuration,
        keyboards: &mut Keyboards,
        tty: &Arc<Tty>,
    ) -> Result<()> {
        let last = configuration
            .keyboards
            .iter()
            .map(|keyboard| index_in(keyboard.endpoint))
            .max();
        for keyboard in &configuration.keyboards {
            let page = || self.controller.memory(SIZE);
            keyboards.push(Endpoint::new(*keyboard, page()?, page()?, Arc::clone(tty)));
        }
        let mut input = self
            .input()
            .slot(self.speed, self.port, last.unwrap_or(CONTROL_ENDPOINT));
        for (keyboard, endpoint) in configuration.keyboards.iter().zip(&*keyboards) {
            input = input.interrupting(Interrupting {
                index: endpoint.index(),
                packet: keyboard.packet,
                interval: self.speed.interval(keyboard.interval),
                dequeue: endpoint.dequeue(),
            });
        }
        let input = input.finish();
        self.command(Trb::configure_endpoint(input, self.slot)).await?;
        self.tell(TO_DEVICE, SET_CONFIGURATION, configuration.value.into(), 0)
            .await?;
        for keyboard in &configuration.keyboards {
            // 0 is the boot protocol, and to report only what has changed. Keyboards that know no other way may refuse.
            let interface = keyboard.interface.into();
            self.may_refuse(TO_HID, SET_PROTOCOL, interface).await?;
            self.may_refuse(TO_HID, SET_IDLE, interface).await?;
        }
        for endpoint in keyboards {
            endpoint.give_all();
            self.controller.ring(self.slot, endpoint.index());
        }
        Ok(())
    }

    /// Types what the keyboards report until the device leaves.
    async fn serve(&mut self, keyboards: &mut Keyboards) -> Result<()> {
        let bus = self.controller.bus();
        for count in 1_usize.. {
            // A controller that never stops leaves others their turn.
            if count.is_multiple_of(BUDGET) {
                rt::yield_now().await;
            }
            let repeat = keyboards.iter().filter_map(Endpoint::next_repeat).min();
            let repeating = async {
                match repeat {
                    Some(time) => bus.sleep_until(time).await,
                    None => pending().await,
                }
            };
            let any = |transfer: &Transfer| transfer.endpoint != CONTROL_ENDPOINT;
            let ended = self.controller.transfer(self.port, self.epoch, None, any);
            // What the device says comes before what would be repeated.
            let transfer = match select(pin!(ended), pin!(repeating)).await {
                Either::Left((transfer, _)) => transfer?,
                Either::Right(_) => {
                    keyboards.iter_mut().for_each(|endpoint| endpoint.repeat(bus.now()));
                    continue;
                }
            };
            let its = |endpoint: &&mut Endpoint| endpoint.index() == transfer.endpoint;
            let Some(endpoint) = keyboards.iter_mut().find(its) else {
                continue;
            };
            match endpoint.ended(transfer, bus.now())? {
                Next::Nothing => {}
                Next::Ring => self.controller.ring(self.slot, endpoint.index()),
                Next::Recover => {
                    self.recover(endpoint.index(), endpoint.dequeue()).await?;
                    let halted = u16::from(endpoint.number()) | u16::from(FROM_DEVICE);
                    self.tell(TO_ENDPOINT, CLEAR_FEATURE, HALT, halted).await?;
                    endpoint.give_all();
                    self.controller.ring(self.slot, endpoint.index());
                }
            }
        }
        Ok(())
    }

    /// Takes an endpoint out of its halt; its ring goes on where the next block will be (4.6.8, 4.6.10).
    async fn recover(&self, endpoint: u8, dequeue: u64) -> Result<()> {
        self.command(Trb::reset_endpoint(self.slot, endpoint)).await?;
        self.command(Trb::set_dequeue(self.slot, endpoint, dequeue)).await
    }

    /// Reads a descriptor that is as long as `into`.
    async fn descriptor(&mut self, kind: u8, index: u8, into: &mut [u8]) -> Result<()> {
        if self.read_descriptor(kind, index, into.len()).await? != into.len() {
            return Err(Errno::EIO);
        }
        self.memory.data.read_bytes(0, into);
        Ok(())
    }

    /// Reads a descriptor into the data's memory; how much of it has come.
    async fn read_descriptor(&mut self, kind: u8, index: u8, length: usize) -> Result<usize> {
        let request = Request {
            kind: FROM_DEVICE,
            request: GET_DESCRIPTOR,
            value: u16::from(kind) << 8 | u16::from(index),
            index: 0,
            length: u16::try_from(length.min(SIZE)).map_err(|_| Errno::EIO)?,
        };
        self.transfer(request).await.map(usize::from)
    }

    /// A request without data.
    async fn tell(&mut self, kind: u8, request: u8, value: u16, index: u16) -> Result<()> {
        let request = Request {
            kind,
            request,
            value,
            index,
            length: 0,
        };
        self.transfer(request).await.map(drop)
    }

    /// One that the device may refuse, with the value 0.
    async fn may_refuse(&mut self, kind: u8, request: u8, index: u16) -> Result<()> {
        match self.tell(kind, request, 0, index).await {
            Err(Errno::EOPNOTSUPP) => Ok(()),
            other => other,
        }
    }

    /// A control transfer, with data from the device if it has any; how many bytes have come.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if the device refuses, `ENODEV` if it has left, else `EIO`.
    async fn transfer(&mut self, request: Request) -> Result<u16> {
        let has_data = request.length > 0;
        dma::before_device();
        let setup = self.control.push(Trb::setup(request));
        let data = has_data.then(|| {
            self.control
                .push(Trb::data_in(self.memory.data.address(), request.length))
        });
        let status = self.control.push(Trb::status(has_data));
        self.controller.ring(self.slot, CONTROL_ENDPOINT);
        let blocks = [Some(setup), data, Some(status)];
        let own = |transfer: &Transfer| transfer.endpoint == CONTROL_ENDPOINT && blocks.contains(&Some(transfer.block));
        let mut come = request.length;
        loop {
            let ended = self
                .controller
                .transfer(self.port, self.epoch, Some(TRANSFER_LIMIT), own);
            let ended = ended.await.map_err(|error| match error {
                Errno::ETIMEDOUT => Errno::EIO,
                other => other,
            })?;
            match ended.code {
                code::SUCCESS | code::SHORT_PACKET if Some(ended.block) == data => {
                    let left = u16::try_from(ended.left).map_err(|_| Errno::EIO)?;
                    come = request.length.checked_sub(left).ok_or(Errno::EIO)?;
                }
                code::SUCCESS if ended.block == status => {
                    dma::after_device();
                    return Ok(come);
                }
                code::SUCCESS | code::SHORT_PACKET => {}
                code => {
                    self.recover(CONTROL_ENDPOINT, self.control.dequeue()).await?;
                    return Err(if code == code::STALL {
                        Errno::EOPNOTSUPP
                    } else {
                        Errno::EIO
                    });
                }
            }
        }
    }
}
