# python: threads, processes, and the calls that it wraps.
python3 - <<'END'
import threading, queue
q = queue.Queue()
def work(i):
    for k in range(100): q.put(i * k)
threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print("threads", q.qsize())
import os, mmap, select, signal, subprocess, time
print(subprocess.run("echo shell; exit 3", shell=True, capture_output=True))
memory = os.memfd_create("tests")
os.write(memory, b"memory")
print(open(f"/proc/self/fd/{memory}").read())
shared = mmap.mmap(-1, 8192)
if os.fork() == 0:
    shared[:5] = b"hello"
    os._exit(4)
print(os.waitstatus_to_exitcode(os.wait()[1]), shared[:5])
poll = select.epoll()
r, w = os.pipe()
poll.register(r, select.EPOLLIN)
os.write(w, b"x")
print(poll.poll(1) == [(r, select.EPOLLIN)])
signal.signal(signal.SIGALRM, lambda *_: print("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.05)
time.sleep(0.2)
END
cat >pool.py <<'END'
import multiprocessing as mp
def square(x): return x * x
if __name__ == "__main__":
    with mp.Pool(4) as pool: print("pool", pool.map(square, range(10)))
    q = mp.get_context("spawn").Queue()
    p = mp.get_context("spawn").Process(target=q.put, args=("spawned",))
    p.start()
    print(q.get(timeout=60))
    p.join()
END
python3 pool.py
python3 - <<'END'
import asyncio
async def main():
    p = await asyncio.create_subprocess_exec("echo", "hi", stdout=asyncio.subprocess.PIPE)
    print("asyncio", (await p.communicate())[0], await p.wait())
asyncio.run(main())
END
