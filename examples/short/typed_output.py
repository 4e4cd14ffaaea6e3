from pydantic import BaseModel

from agentkit import Agent


class City(BaseModel):
    name: str


print(Agent(output_type=City).run_sync("Which is the capital of Italy?").output.name)
