"""The library's algorithms, one row each."""

from __future__ import annotations

from rl_framework.agent.imitation.imitation.rows import AlgorithmRow
from rl_framework.errors import InvalidInputError, UnknownOptionError

HERE = "rl_framework.agent.imitation.imitation"
LOGGER = "The numbers reach `callbacks` and `connector`."
DEMONSTRATIONS = "Give the demonstrations to `train`."
ENVIRONMENTS = "Give the environments to `train`."
CLONING = {
    "observation_space": "It is that of the demonstrations.",
    "action_space": "It is that of the demonstrations.",
    "rng": "Give a `seed` to the agent.",
    "demonstrations": DEMONSTRATIONS,
    "custom_logger": LOGGER,
}
ADVERSARIAL = {
    "demonstrations": DEMONSTRATIONS,
    "venv": ENVIRONMENTS,
    "gen_algo": "Give `generator_class` and `generator_parameters` to the agent.",
    "reward_net": "Give `reward_net` and `reward_net_parameters` to the agent.",
    "custom_logger": LOGGER,
    "allow_variable_horizon": "Give `allow_variable_horizon` to the agent.",
    "log_dir": LOGGER,
    "init_tensorboard": LOGGER,
    "init_tensorboard_graph": LOGGER,
    "debug_use_ground_truth": "To train on the environments' own reward, use a StableBaselinesAgent.",
}

BC = AlgorithmRow(
    name="BC",
    algorithm="imitation.algorithms.bc:BC",
    learner=f"{HERE}.behavioural_cloning:CloningLearner",
    counts="transitions",
    needs_environments=False,
    takes_dict_observations=True,
    takes_validation=True,
    reserved=CLONING,
    own_parameters=("policy_kwargs",),
    preparation=f"{HERE}.cloning:prepared_parameters",
)
DAGGER = AlgorithmRow(
    name="DAgger",
    algorithm="imitation.algorithms.dagger:DAggerTrainer",
    learner=f"{HERE}.dagger:DaggerLearner",
    needs_episodes=False,
    needs_expert=True,
    takes_dict_observations=True,
    takes_validation=True,
    reserved={
        "venv": ENVIRONMENTS,
        "scratch_dir": "What is collected is a part of the saved agent.",
        "rng": "Give a `seed` to the agent.",
        "bc_trainer": "Give what its constructor takes as `bc_parameters`.",
        "expert_policy": "Give `expert` to the agent.",
        "expert_trajs": DEMONSTRATIONS,
        "custom_logger": LOGGER,
    },
    is_own_loop=True,
    preparation=f"{HERE}.dagger:prepared_parameters",
    own_parameters=("bc_parameters", "rollout_round_min_episodes", "rollout_round_min_timesteps", "n_epochs"),
)
GAIL = AlgorithmRow(
    name="GAIL",
    algorithm="imitation.algorithms.adversarial.gail:GAIL",
    learner=f"{HERE}.adversarial:AdversarialLearner",
    default_generator="PPO",
    default_reward_net="basic",
    minds_horizons=True,
    reserved=ADVERSARIAL,
)
AIRL = AlgorithmRow(
    name="AIRL",
    algorithm="imitation.algorithms.adversarial.airl:AIRL",
    learner=f"{HERE}.adversarial:AdversarialLearner",
    default_generator="PPO",
    default_reward_net="basic_shaped",
    minds_horizons=True,
    reserved=ADVERSARIAL,
)
SQIL = AlgorithmRow(
    name="SQIL",
    algorithm="imitation.algorithms.sqil:SQIL",
    learner=f"{HERE}.sqil:SQILLearner",
    default_generator="DQN",
    is_own_loop=True,
    reserved={
        "venv": ENVIRONMENTS,
        "demonstrations": DEMONSTRATIONS,
        "custom_logger": LOGGER,
        "policy": "Give it in `generator_parameters` to the agent.",
        "rl_algo_class": "Give `generator_class` to the agent.",
        "rl_kwargs": "Give `generator_parameters` to the agent.",
    },
)
DENSITY = AlgorithmRow(
    name="density",
    algorithm="imitation.algorithms.density:DensityAlgorithm",
    learner=f"{HERE}.density:DensityLearner",
    default_generator="PPO",
    takes_dict_observations=True,
    minds_horizons=True,
    is_own_loop=True,
    preparation=f"{HERE}.density_model:prepare_parameters",
    reserved={
        "demonstrations": DEMONSTRATIONS,
        "venv": ENVIRONMENTS,
        "rng": "Give a `seed` to the agent.",
        "rl_algo": "Give `generator_class` and `generator_parameters` to the agent.",
        "custom_logger": LOGGER,
        "allow_variable_horizon": "Give `allow_variable_horizon` to the agent.",
    },
)
PREFERENCE_COMPARISONS = AlgorithmRow(
    name="preference comparisons",
    algorithm="imitation.algorithms.preference_comparisons:PreferenceComparisons",
    learner=f"{HERE}.preferences:PreferenceLearner",
    needs_episodes=False,
    default_generator="PPO",
    default_reward_net="basic",
    minds_horizons=True,
    is_own_loop=True,
    preparation=f"{HERE}.comparisons:prepare_parameters",
    reserved={
        "trajectory_generator": "Give `generator_class` and `generator_parameters` to the agent.",
        "reward_model": "Give `reward_net` and `reward_net_parameters` to the agent.",
        "reward_trainer": "Give what its constructor takes as `reward_trainer_kwargs`.",
        "fragmenter": "Give what its constructor takes as `fragmenter_kwargs`, or `active_selection=True`.",
        "custom_logger": LOGGER,
        "rng": "Give a `seed` to the agent.",
        "allow_variable_horizon": "Give `allow_variable_horizon` to the agent.",
    },
    own_parameters=(
        "total_comparisons",
        "active_selection",
        "active_selection_oversampling",
        "uncertainty_on",
        "ensemble_size",
        "add_std_alpha",
        "fragmenter_kwargs",
        "gatherer_kwargs",
        "preference_model_kwargs",
        "reward_trainer_kwargs",
        "trajectory_generator_kwargs",
    ),
)
MCE_IRL = AlgorithmRow(
    name="MCE IRL",
    algorithm="imitation.algorithms.mce_irl:MCEIRL",
    learner=f"{HERE}.mce_irl:MCEIRLLearner",
    counts="iterations",
    default_reward_net="basic",
    is_own_loop=True,
    reserved={
        "demonstrations": DEMONSTRATIONS,
        "env": ENVIRONMENTS,
        "reward_net": "Give `reward_net` and `reward_net_parameters` to the agent.",
        "rng": "Give a `seed` to the agent.",
        "custom_logger": LOGGER,
        "log_interval": LOGGER,
    },
)

ROWS = {row.name: row for row in (BC, DAGGER, GAIL, AIRL, SQIL, DENSITY, PREFERENCE_COMPARISONS, MCE_IRL)}


def row_named(name: str) -> AlgorithmRow:
    """The row of a name; capitals do not matter.

    Raises:
        UnknownOptionError: There is none.
    """
    exact = next((known for known in ROWS if known.lower() == name.lower()), None)
    if exact is None:
        raise UnknownOptionError.of("algorithm of the imitation library", name, ROWS)
    return ROWS[exact]


def row_of(algorithm_class: type) -> AlgorithmRow:
    """The row of the library's class, or of one derived from it.

    Raises:
        InvalidInputError: There is none.
    """
    lineage = [f"{base.__module__}:{base.__qualname__}" for base in algorithm_class.__mro__]
    for row in ROWS.values():
        if row.algorithm in lineage and (not row.is_own_loop or lineage[0].startswith("imitation.")):
            return row
    raise InvalidInputError(
        f"algorithm_class must be an algorithm of the imitation library ({', '.join(ROWS)}), by class or by name; got "
        f"{algorithm_class!r}."
    )
