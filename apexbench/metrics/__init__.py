"""What a run achieved, computed from its log alone; knows neither policies nor hardware.

Rates (tokens/s, requests/s, busy and idle fractions) are taken over the *window*, a stretch of time
without warm-up and cool-down. Latencies, SLO attainment and the counts of completed, failed and
unfinished requests are taken over the *counted requests*, each followed to its end. Both are chosen
without looking at who served whom, so every policy is judged on the same requests:

                     window                                   counted requests
backlog (rate None)  warm-up over .. nothing waits any more   all
open loop            the arrival at 10 % .. the last arrival  those that arrive in the window

A closed loop is a backlog whose arrivals are the releases of its requests. Without a usable window
the whole run is measured, and `Window.is_steady` is False.

TTFT = first token - arrival              E2E = end - arrival
TPOT = (end - first token)/(output - 1)   latency per token = E2E / output
ITL  = gap between consecutive tokens of a request, over the whole run

Arrival is the scheduled arrival, so queueing never hides. In a backlog it is t = 0 for everybody:
TTFT, E2E and latency per token then measure mostly how many requests the tester queued.

Output throughput counts tokens when they are produced. Request throughput is output throughput
times completed requests per produced token of the whole run. Completions in the window would be
biased: a request deferred to the CPU takes minutes and many of them began together, so that their
ends come in waves long after the work became steady. In the long run both agree.

Goodput = requests/s that completed and met every target. Open loop: conforming requests / window.
Backlog: request throughput * conforming / completed. Attainment = conforming / counted. Failed,
rejected and unfinished requests do not conform; cancelled ones are left out of both sides.
"""
