"""The HTTP front.

Down: `http` decodes a request and calls its endpoint → `submit` stores a job and puts it into the queue.
Back: `answer` waits for the reply in the inbox of this process and sends it whole, as a stream, or as a 202.
"""
